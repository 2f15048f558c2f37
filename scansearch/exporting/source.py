"""What is exported: a genotype and a model that has its weights."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from scansearch.data.specifications import without_folders
from scansearch.data.treatment import Treatment
from scansearch.errors import InputError
from scansearch.records.genotype import Genotype
from scansearch.records.lookup import Kind, Named, look_up
from scansearch.records.weights import Weights, has_model, load_weights

if TYPE_CHECKING:
    from torch import Tensor

    from scansearch.models.backbone import ScanBackbone

SUBJECTS: tuple[Kind, ...] = ("genotype", "search", "training", "weights", "published")


@dataclass(frozen=True)
class Source:
    """A model to export; ``model`` is on the CPU, in evaluation mode.

    Attributes:
        name: what the export is called where it needs a name.
        arguments: arguments of the model's class beyond the genotype's own, with num_classes, in_chans, img_size.
        notes: where the weights come from, as the weight file tells.
        treatment: what the images of these weights are, and their classes, where the weight file tells.
        weights: the file that the weights were read from, None for fresh ones.
        seed: of fresh weights, and of the random images of the check.
    """

    name: str
    genotype: Genotype
    model: ScanBackbone
    arguments: dict[str, Any]
    notes: dict[str, Any] = field(default_factory=dict)
    weights: Path | None = None
    seed: int = 0
    treatment: Treatment | None = None

    @property
    def all_arguments(self) -> dict[str, Any]:
        """Every argument of the model's class but the directions, as plain values (lists for tuples)."""
        merged = self.genotype.model | self.arguments
        return {key: list(value) if isinstance(value, tuple) else value for key, value in merged.items()}

    @property
    def image_size(self) -> tuple[int, int]:
        size = self.all_arguments.get("img_size", 224)
        return (size, size) if isinstance(size, int) else (size[0], size[1])

    def images(self, batch: int = 2) -> Tensor:
        """Random images [batch, channels, height, width] of unit variance, always the same ones."""
        generator = torch.Generator().manual_seed(self.seed + batch)
        return torch.randn(batch, self.model.in_chans, *self.image_size, generator=generator)

    def logits(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return self.model(images)

    def describe_weights(self) -> str:
        return (
            f"weights of {self.weights}" if self.weights is not None else f"fresh weights, seed {self.seed}"
        )


@dataclass(frozen=True)
class SourceOptions:
    """How a subject becomes a model.

    Attributes:
        weights: a weight file, or a plain checkpoint in our layout; None for the subject's, else fresh ones.
        seed: of fresh weights, and of the random images of the check.
        num_classes, in_chans, img_size: of the model; with weights, classes and channels are theirs.
        name: what the model is called in formats that name it; None for a made one.
    """

    weights: str | Path | None = None
    seed: int = 0
    num_classes: int | None = None
    in_chans: int | None = None
    img_size: int | tuple[int, int] | None = None
    name: str | None = None

    @property
    def sizes(self) -> dict[str, Any]:
        """Those of the model's sizes that are set."""
        sizes = {"num_classes": self.num_classes, "in_chans": self.in_chans, "img_size": self.img_size}
        return {key: value for key, value in sizes.items() if value is not None}


def load_source(subject: str | Path, options: SourceOptions = SourceOptions()) -> Source:
    """The model that ``subject`` stands for.

    Args:
        subject: a run folder (with its best weights where it has any), a genotype file, a weight file, or the
            name of a published model.

    Exports are published, so paths of this machine are left out of what it says of its data.

    Raises:
        InputError: nothing of that name, weights that do not fit, or a supernet.
    """
    source = _load(subject, options)
    notes = {
        key: without_folders(value) if key == "data" and isinstance(value, str) else value
        for key, value in source.notes.items()
    }
    provenance = source.genotype.provenance
    if provenance.data is not None:
        provenance = provenance.model_copy(update={"data": without_folders(provenance.data)})
    return replace(
        source, notes=notes, genotype=source.genotype.model_copy(update={"provenance": provenance})
    )


def _load(subject: str | Path, options: SourceOptions) -> Source:
    named = look_up(subject, SUBJECTS, command="export")
    if named.kind == "weights" and options.weights is not None:
        raise InputError(f"{subject} holds weights already: leave out the other weight file")
    file = named.weight_file if options.weights is None else Path(options.weights)
    if file is None:
        genotype = named.genotype()
        _refuse_supernet(genotype)
        defaults = {"num_classes": 1000, "in_chans": 3, "img_size": genotype.model.get("img_size", 224)}
        arguments = defaults | options.sizes
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(options.seed)
            model = cast("ScanBackbone", genotype.build(**arguments)).eval()
        return Source(options.name or _name(named, genotype), genotype, model, arguments, seed=options.seed)
    weights = _read_weights(file, None if named.kind == "weights" else named.genotype(), options.sizes)
    for key, value in options.sizes.items():
        own = weights.arguments.get(key)
        if _sides(own) != _sides(value) if key == "img_size" else own != value:
            raise InputError(f"{file}: the weights are for {key} {weights.arguments.get(key)}, not {value}")
    _refuse_supernet(weights.genotype)
    return Source(
        options.name or _name(named, weights.genotype),
        weights.genotype,
        cast("ScanBackbone", weights.model),  # _read_weights refuses others
        {"img_size": weights.genotype.model.get("img_size", 224)} | weights.arguments,
        weights.notes,
        file,
        options.seed,
        weights.treatment,
    )


def _read_weights(file: Path, genotype: Genotype | None, sizes: dict[str, Any]) -> Weights:
    """The weight file, checked against ``genotype``; a plain checkpoint takes all but its tensors from there."""
    if genotype is None or (file.suffix == ".safetensors" and has_model(file)):
        weights = load_weights(file)
        if weights.head is not None:
            raise InputError(f"{file} holds a model of task {weights.task}: export takes classifiers only")
        if genotype is not None and weights.genotype.hash != genotype.hash:
            raise InputError(f"{file}: weights of genotype {weights.genotype.hash}, not of {genotype.hash}")
        return weights
    from scansearch.models.checkpoints import read_checkpoint

    state = read_checkpoint(file)
    head, stem = state.get("head.weight"), state.get("patch_embed.proj.weight")
    arguments = {"img_size": genotype.model.get("img_size", 224)} | sizes
    arguments["num_classes"] = 0 if head is None or not head.ndim else len(head)
    arguments["in_chans"] = stem.shape[1] if stem is not None and stem.ndim == 4 else sizes.get("in_chans", 3)
    model = cast("ScanBackbone", genotype.build(**arguments))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:3]]
        raise InputError(
            f"{file}: the weights do not fit genotype {genotype.hash}: {' '.join(lines)}"
        ) from None
    return Weights(model.eval(), genotype, arguments, {})


def _refuse_supernet(genotype: Genotype) -> None:
    if genotype.model.get("weighted"):
        raise InputError("a supernet is no model to export: derive a genotype from its preferences first")


def _name(named: Named, genotype: Genotype) -> str:
    if named.kind == "published":
        return named.name
    parts = [genotype.space or genotype.family, genotype.variant or "", genotype.hash]
    return "_".join(part for part in parts if part).replace("-", "_")


def _sides(size: Any) -> Any:
    return (size, size) if isinstance(size, int) else size
