"""What both model families share: the classifier, gates, features, and what timm asks of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from scansearch.errors import InputError
from scansearch.models.mixers import DirectionalSSM

# Undecayed whatever their number of axes: stacking per direction gives biases two of them.
_UNDECAYED = ("A_log", "D", "dt_bias", "conv_bias", "alpha", "pos_embed", "cls_token")


def channel_norm(kind: str, dim: int) -> nn.Module:
    """RMSNorm ("rms") or LayerNorm ("layer") over the last axis, epsilon 1e-5.

    Raises:
        InputError: any other kind.
    """
    if kind == "rms":
        return nn.RMSNorm(dim, eps=1e-5)
    if kind == "layer":
        return nn.LayerNorm(dim, eps=1e-5)
    raise InputError(f"norm {kind!r} is unknown: use 'rms' or 'layer'")


def check_rate(name: str, rate: float) -> float:
    """``rate`` if it lies in [0, 1), else an InputError naming it."""
    if not 0.0 <= rate < 1.0:
        raise InputError(f"{name} {rate} must lie in [0, 1)")
    return float(rate)


def increasing_rates(last: float, count: int) -> list[float]:
    """``count`` rates that rise linearly from 0 to ``last``."""
    return [last * index / max(count - 1, 1) for index in range(count)]


def level_indices(indices: int | Sequence[int] | None, levels: int) -> tuple[int, ...]:
    """Feature levels as indices in 0..levels-1; an int n means the last n, None all of them.

    Raises:
        InputError: an index outside the model, or none at all.
    """
    if indices is None:
        return tuple(range(levels))
    wanted = [levels - n for n in range(indices, 0, -1)] if isinstance(indices, int) else list(indices)
    found = tuple(index + levels if index < 0 else index for index in wanted)
    if not found or not all(0 <= index < levels for index in found):
        raise InputError(f"feature indices {tuple(wanted)} must lie in {-levels}..{levels - 1}")
    return found


class ScanBackbone(nn.Module):
    """Base of LocalVim and LocalVMamba.

    Attributes:
        num_classes, num_features, in_chans, global_pool: as in timm.
        feature_info: one entry per feature level, with num_chs, reduction (stride) and module.
        feature_norms: learned LayerNorms of the levels given as ``feature_levels``; a level without one gets
            a LayerNorm without parameters.
        weighted: whether this is a supernet, whose mixers own ``alpha``.
    """

    pools: tuple[str, ...] = ("avg", "")

    def __init__(
        self,
        *,
        num_features: int,
        num_classes: int,
        in_chans: int,
        global_pool: str,
        drop_rate: float,
        weighted: bool,
    ) -> None:
        super().__init__()
        if num_classes < 0:
            raise InputError(f"num_classes must be at least 0, not {num_classes}")
        if in_chans < 1:
            raise InputError(f"in_chans must be at least 1, not {in_chans}")
        self.num_features = self.head_hidden_size = num_features
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.weighted = weighted
        self.grad_checkpointing = False
        self.global_pool = self._check_pool(global_pool)
        self.head_drop = nn.Dropout(check_rate("drop_rate", drop_rate))
        self.feature_info: list[dict[str, Any]] = []
        self.feature_norms = nn.ModuleDict()
        self.norm: nn.Module
        self.head: nn.Module

    def _check_pool(self, pool: str) -> str:
        if pool not in self.pools:
            raise InputError(f"global_pool {pool!r} is unknown: use {' or '.join(map(repr, self.pools))}")
        return pool

    def _make_head(self) -> nn.Module:
        if self.num_classes == 0:
            return nn.Identity()
        head = nn.Linear(self.num_features, self.num_classes)
        nn.init.trunc_normal_(head.weight, std=0.02)
        nn.init.zeros_(head.bias)
        return head

    def _add_feature_norms(self, levels: Sequence[int]) -> None:
        for level in level_indices(levels, len(self.feature_info)) if levels else ():
            self.feature_norms[str(level)] = nn.LayerNorm(self.feature_info[level]["num_chs"], eps=1e-5)

    def _normed_feature(self, x: Tensor, level: int) -> Tensor:
        if str(level) in self.feature_norms:
            return self.feature_norms[str(level)](x)
        return F.layer_norm(x, x.shape[-1:], eps=1e-5)

    def _run(self, layer: nn.Module, *arguments: Any) -> Any:
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint(layer, *arguments, use_reentrant=False)
        return layer(*arguments)

    def _check_image(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.in_chans:
            raise InputError(
                f"images of shape {tuple(x.shape)} do not fit [batch, {self.in_chans}, height, width]"
            )

    @property
    def mixers(self) -> list[DirectionalSSM]:
        """The state-space mixers in layer order."""
        return [module for module in self.modules() if isinstance(module, DirectionalSSM)]

    @property
    def directions(self) -> tuple[tuple[str, ...], ...]:
        """The scan directions of every layer."""
        return tuple(mixer.directions for mixer in self.mixers)

    def mixer_grids(self, height: int, width: int) -> list[tuple[int, int]]:
        """Rows and columns of tokens that each mixer scans, for images of ``height`` x ``width`` pixels."""
        raise NotImplementedError

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a fresh one of ``num_classes`` (0: none), and the pooling if given."""
        if global_pool is not None:
            self.global_pool = self._check_pool(global_pool)
        self.num_classes = num_classes
        reference = next(self.parameters())
        self.head = self._make_head().to(device=reference.device, dtype=reference.dtype)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute every layer in the backward pass instead of keeping its activations."""
        self.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that should not decay: A_log, D, stacked biases, embeddings and alphas."""
        return {name for name, _ in self.named_parameters() if name.rpartition(".")[2] in _UNDECAYED}

    def pool(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool normalised features, then classify unless ``pre_logits``."""
        x = self.head_drop(self.pool(x))
        return x if pre_logits else self.head(x)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what the feature levels ``indices`` do not need; returns them, all counted from 0."""
        take = level_indices(indices, len(self.feature_info))
        self._prune_layers(max(take))
        if prune_norm:
            self.norm = nn.Identity()
        if prune_head:
            self.reset_classifier(0, "")
        return list(take)

    def _prune_layers(self, last: int) -> None:
        raise NotImplementedError
