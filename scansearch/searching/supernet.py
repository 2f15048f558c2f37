"""Supernet: the backbone with every candidate direction in every layer, and its architecture parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from scansearch.directions import Layers
from scansearch.errors import InputError
from scansearch.models.backbone import ScanBackbone
from scansearch.models.build import build_model
from scansearch.models.merge import LayerGates
from scansearch.models.mixers import DirectionalSSM
from scansearch.records.heads import TaskHead, TaskName
from scansearch.records.space import SearchSpace
from scansearch.tasks import find_task
from scansearch.text import choices


class Supernet(nn.Module):
    """The model of a search.

    Attributes:
        candidates: direction names of each layer.
        backbone: the family's model with a weighted merge.
        decoder: makes the outputs of the backbone's feature maps; None where the backbone classifies itself.
    """

    def __init__(self, backbone: ScanBackbone, decoder: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone, self.decoder = backbone, decoder
        self.candidates: Layers = tuple(tuple(m.directions) for m in backbone.mixers)

    @classmethod
    def of_space(
        cls,
        space: SearchSpace,
        variant: str | None = None,
        *,
        num_classes: int,
        task: TaskName = "classify",
        head: TaskHead | None = None,
        **overrides: Any,
    ) -> Supernet:
        """A supernet of ``space`` for ``task`` with fresh weights; ``overrides`` go to the family's class."""
        kind = find_task(task)
        arguments = space.model_arguments(variant, "supernet") | overrides
        arguments |= kind.arguments(space.family, arguments, num_classes)
        backbone = build_model(space.family, space.layer_candidates(variant), weighted=True, **arguments)
        return cls(backbone, kind.decoder(backbone, num_classes, head))

    @property
    def mixers(self) -> list[DirectionalSSM]:
        """The mixers, one per layer."""
        return self.backbone.mixers

    @property
    def alphas(self) -> list[nn.Parameter]:
        """Architecture parameters, one float32 tensor [candidates] per layer."""
        return [mixer.alpha for mixer in self.mixers]

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """Every other parameter by name."""
        alphas = {id(alpha) for alpha in self.alphas}
        return {name: p for name, p in self.named_parameters() if id(p) not in alphas}

    def forward(self, images: Tensor, gates: Sequence[LayerGates] | None = None, targets: Any = None) -> Any:
        """Logits [batch, classes] of ``images`` [batch, channels, height, width], or what the decoder makes of them.

        ``gates`` is one :class:`LayerGates` per layer; None means softmax(alpha) everywhere. ``targets`` are of a task
        whose model sees them in training.
        """
        if self.decoder is not None:
            return cast(Any, self.decoder).decode(self.backbone, images, gates, targets)
        return self.backbone(images, gates=gates)

    def subnetwork(self, layers: Sequence[Sequence[str]]) -> list[LayerGates]:
        """Gates of the sub-network with inherited weights that has these directions.

        All other gates are zero, those of the chosen branches are their softmax probabilities renormalised
        to one; the LayerNorm of the weighted merge stays.

        Raises:
            InputError: a wrong number of layers or a direction that is no candidate.
        """
        if len(layers) != len(self.candidates):
            raise InputError(f"{len(layers)} layers given, the supernet has {len(self.candidates)}")
        gates = []
        for index, (chosen, names, alpha) in enumerate(
            zip(layers, self.candidates, self.alphas, strict=True)
        ):
            unknown = [name for name in chosen if name not in names]
            if unknown:
                raise InputError(
                    f"layer {index}: {unknown[0]!r} is no candidate {choices(unknown[0], names)}"
                )
            active = tuple(i for i, name in enumerate(names) if name in chosen)
            gates.append(LayerGates(torch.softmax(alpha.detach()[list(active)], 0), active))
        return gates
