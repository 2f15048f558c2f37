"""What is exported: a genotype and a model that has its weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from scansearch.errors import InputError
from scansearch.records.genotype import Genotype
from scansearch.records.provenance import Provenance
from scansearch.records.weights import Weights, load_weights

if TYPE_CHECKING:
    from torch import Tensor

    from scansearch.models.backbone import ScanBackbone

BEST = "best.safetensors"


@dataclass(frozen=True)
class Source:
    """A model to export; ``model`` is on the CPU, in evaluation mode.

    Attributes:
        name: what the export is called where it needs a name.
        arguments: arguments of the model's class beyond the genotype's own, with num_classes, in_chans, img_size.
        notes: where the weights come from, as the weight file tells.
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


def load_source(
    subject: str | Path,
    *,
    weights: str | Path | None = None,
    seed: int = 0,
    num_classes: int | None = None,
    in_chans: int | None = None,
    img_size: int | None = None,
    name: str | None = None,
) -> Source:
    """The model that ``subject`` stands for.

    Args:
        subject: a run folder (with its best weights where it has any), a genotype file, a weight file, or the
            name of a published model.
        weights: a weight file, or a plain checkpoint in our layout; None for the subject's, else fresh ones.
        seed: of fresh weights.
        num_classes, in_chans, img_size: of the model; with weights, classes and channels are theirs.

    Raises:
        InputError: nothing of that name, weights that do not fit, or a supernet.
    """
    subject = Path(subject)
    genotype, file = _find(subject, None if weights is None else Path(weights))
    given = {"num_classes": num_classes, "in_chans": in_chans, "img_size": img_size}
    given = {key: value for key, value in given.items() if value is not None}
    if file is None:
        assert genotype is not None
        arguments = {
            "num_classes": 1000,
            "in_chans": 3,
            "img_size": genotype.model.get("img_size", 224),
        } | given
        _refuse_supernet(genotype)
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            model = cast("ScanBackbone", genotype.build(**arguments)).eval()
        return Source(name or _name(subject, genotype), genotype, model, arguments, seed=seed)
    found = _read_weights(file, genotype, given)
    for key, value in given.items():
        if found.arguments.get(key) != value:
            raise InputError(f"{file}: the weights are for {key} {found.arguments.get(key)}, not {value}")
    _refuse_supernet(found.genotype)
    return Source(
        name or _name(subject, found.genotype),
        found.genotype,
        found.model,
        {"img_size": found.genotype.model.get("img_size", 224)} | found.arguments,
        found.notes,
        file,
        seed,
    )


def _find(subject: Path, weights: Path | None) -> tuple[Genotype | None, Path | None]:
    """Genotype (None: the weight file's own) and weight file (None: fresh weights)."""
    from scansearch.models.published import PUBLISHED

    if subject.is_dir():
        if weights is None and (subject / BEST).is_file():
            weights = subject / BEST
        if (subject / "genotype.yaml").is_file():
            return Genotype.load(subject / "genotype.yaml"), weights
        if weights is None:
            raise InputError(f"folder {str(subject)!r} holds neither genotype.yaml nor {BEST}")
        return None, weights
    if subject.is_file():
        if subject.suffix == ".safetensors":
            if weights is not None:
                raise InputError(f"{subject} holds weights already: leave out the other weight file")
            return None, subject
        return Genotype.load(subject), weights
    if str(subject) in PUBLISHED:
        published = PUBLISHED[str(subject)]
        note = f"published: {published.summary}"
        found = Genotype(
            family=cast(Any, published.family),
            layers=published.layers,
            model=published.arguments,
            provenance=Provenance(note=note),
        )
        return found, weights
    raise InputError(
        f"{str(subject)!r} is no run folder, genotype file or weight file, and no published model "
        f"(there are: {', '.join(PUBLISHED)})"
    )


def _read_weights(file: Path, genotype: Genotype | None, given: dict[str, Any]) -> Weights:
    """The weight file, checked against ``genotype``; a plain checkpoint takes all but its tensors from there."""
    if genotype is None or (file.suffix == ".safetensors" and _has_genotype(file)):
        found = load_weights(file)
        if genotype is not None and found.genotype.hash != genotype.hash:
            raise InputError(f"{file}: weights of genotype {found.genotype.hash}, not of {genotype.hash}")
        return found
    from scansearch.models.checkpoints import read_checkpoint

    state = read_checkpoint(file)
    head, stem = state.get("head.weight"), state.get("patch_embed.proj.weight")
    arguments = {"img_size": genotype.model.get("img_size", 224)} | given
    arguments["num_classes"] = 0 if head is None else len(head)
    arguments["in_chans"] = stem.shape[1] if stem is not None and stem.ndim == 4 else given.get("in_chans", 3)
    model = cast("ScanBackbone", genotype.build(**arguments))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:3]]
        raise InputError(
            f"{file}: the weights do not fit genotype {genotype.hash}: {' '.join(lines)}"
        ) from None
    return Weights(model.eval(), genotype, arguments, {})


def _has_genotype(file: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            return "genotype" in (opened.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file}: not a safetensors file ({error})") from None


def _refuse_supernet(genotype: Genotype) -> None:
    if genotype.model.get("weighted"):
        raise InputError("a supernet is no model to export: derive a genotype from its preferences first")


def _name(subject: Path, genotype: Genotype) -> str:
    from scansearch.models.published import PUBLISHED

    if str(subject) in PUBLISHED:
        return str(subject)
    parts = [genotype.space or genotype.family, genotype.variant or "", genotype.hash]
    return "_".join(part for part in parts if part).replace("-", "_")
