"""The weights that a training starts from, instead of fresh ones: read safely, compared strictly, and reported."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from scansearch.data.treatment import height_and_width
from scansearch.errors import InputError
from scansearch.files.strict import StrictModel, Strings
from scansearch.models.build import FAMILIES
from scansearch.models.checkpoints import read_checkpoint
from scansearch.models.published import PUBLISHED
from scansearch.models.transfer import Transfer, transfer
from scansearch.records.genotype import Genotype
from scansearch.records.lookup import expect_kind, look_up, published_genotype
from scansearch.records.weights import WeightHeader, described_model, has_model, read_header, read_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from scansearch.models.backbone import ScanBackbone

# Arguments of a model's class that may differ.
_FREE = (
    "directions",
    "img_size",
    "num_classes",
    "in_chans",
    "drop_rate",
    "pos_drop_rate",
    "drop_path_rate",
    "dt_init",
    "dt_rank",
    "feature_levels",
)
_BACKBONE = "backbone."  # of a model with a head of its own


class StartReport(StrictModel):
    """What a training started from, as ``weights.json`` of its run folder keeps it.

    Attributes:
        file, sha256: the weight file, and the digest of its content.
        loaded: tensors taken from it.
        fresh: names of the tensors that were not.
        lines: that, and what was resampled, in words.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    file: str
    sha256: str
    loaded: int
    fresh: Strings
    lines: Strings

    def to_json(self) -> str:
        return self.model_dump_json(by_alias=True, indent=1) + "\n"

    def warning(self) -> str | None:
        """What has become of the file since; None where nothing has."""
        path = Path(self.file)
        if path.is_file() and file_digest(path) == self.sha256:
            return None
        changed = "was changed" if path.is_file() else "is gone"
        return f"{self.file}, which this training started from, {changed}; it goes on from its own checkpoint"


@dataclass(frozen=True)
class InitialWeights:
    """What a weight file holds, before it is fitted to a model.

    Attributes:
        path: the file.
        digest: SHA-256 of its content.
        tensors: in scansearch's layout.
        genotype: of its model; None where the file does not tell.
        classes: of its head, in order; empty where the file does not tell.
        image_size: height and width in pixels; None where the file does not tell.
        arguments: further ones of its model's class.
    """

    path: Path
    digest: str
    tensors: dict[str, Tensor]
    genotype: Genotype | None = None
    classes: tuple[str, ...] = ()
    image_size: tuple[int, int] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Start:
    """Weights fitted to one model.

    Attributes:
        given: the tensors.
        lines: what was loaded, resampled and left fresh, in words.
    """

    weights: InitialWeights
    given: Transfer
    lines: tuple[str, ...]

    @property
    def report(self) -> StartReport:
        return StartReport(
            file=str(self.weights.path),
            sha256=self.weights.digest,
            loaded=len(self.given.tensors),
            fresh=self.given.fresh,
            lines=self.lines,
        )


def weight_file(name: str | Path) -> Path:
    """The file that ``name`` stands for: a training's run folder means its best weights.

    Raises:
        InputError: neither a file nor a training's run folder with weights.
    """
    path = Path(name)
    if path.is_file() and path.suffix != ".safetensors":
        expect_kind(path, ("weights",), command="train --weights")
        return path  # a torch checkpoint
    file = look_up(path, ("training", "weights"), command="train --weights").weight_file
    if file is None:
        raise InputError(f"the training in {str(name)!r} holds no weights yet: it has not ended an epoch")
    return file


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None


def read_initial(name: str | Path) -> InitialWeights:
    """The weights in a weight file, a training's run folder, or a plain checkpoint; no code in it is run.

    Raises:
        InputError: nothing there, or no weights that can be read safely.
    """
    path = weight_file(name)
    digest = file_digest(path)
    if path.suffix != ".safetensors" or not has_model(path):
        model = described_model(path) if path.suffix == ".safetensors" else None
        genotype = published_genotype(model) if model in PUBLISHED else None
        return InitialWeights(path, digest, read_checkpoint(path), genotype)
    header = read_header(path)
    classes = header.treatment.classes if header.treatment is not None else ()
    size, tensors = _image_size(header), read_tensors(path)
    if header.head is not None:  # its backbone alone
        tensors = {
            name.removeprefix(_BACKBONE): value
            for name, value in tensors.items()
            if name.startswith(_BACKBONE)
        }
    return InitialWeights(path, digest, tensors, header.genotype, classes, size, header.arguments)


def _image_size(header: WeightHeader) -> tuple[int, int] | None:
    size: Any = header.arguments.get("img_size", header.genotype.model.get("img_size"))
    return None if size is None else height_and_width(size)


def fit_weights(
    weights: InitialWeights,
    model: ScanBackbone,
    genotype: Genotype,
    arguments: Mapping[str, Any],
    classes: Sequence[str],
) -> Start:
    """``weights`` as the start of the backbone ``model``, which is ``genotype.build(**arguments)``.

    A classifier's head is taken where the classes and their order are the same, or where the file does not tell its
    classes and there are as many.

    Raises:
        InputError: another family, other directions or settings, or tensors that do not fit; names the first
            difference.
    """
    where = f"weights {str(weights.path)!r} do not fit"
    difference = _first_difference(weights, genotype, arguments)
    if difference is not None:
        raise InputError(f"{where}: {difference}")
    same = not weights.classes or weights.classes == tuple(classes)
    try:
        given = transfer(model, weights.tensors, head=same, image_size=weights.image_size)
    except InputError as error:
        hint = "" if weights.genotype else " (scansearch convert reads released checkpoints)"
        raise InputError(f"{where}: {error}{hint}") from None
    return Start(weights, given, _report(weights, given, model, len(classes)))


def _first_difference(weights: InitialWeights, ours: Genotype, arguments: Mapping[str, Any]) -> str | None:
    theirs = weights.genotype
    if theirs is None:
        return None
    if theirs.family != ours.family:
        return f"they are of family {theirs.family}, the model is of {ours.family}"
    if len(theirs.layers) != len(ours.layers):
        return f"they have {len(theirs.layers)} layers, the model has {len(ours.layers)}"
    for layer, (before, now) in enumerate(zip(theirs.layers, ours.layers, strict=True)):
        if before != now:
            return f"layer {layer} (from 0) scans {' '.join(before)}, the model's {' '.join(now)}"
    old, new = _settings(theirs, weights.arguments), _settings(ours, arguments)
    for name in sorted(old):
        if old[name] != new[name]:
            return f"their {name} is {old[name]!r}, the model's {new[name]!r}"
    return None


def _settings(genotype: Genotype, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Every argument of the model's class that changes what the same weights compute."""
    defaults = {
        name: one.default for name, one in inspect.signature(FAMILIES[genotype.family]).parameters.items()
    }
    settings = defaults | genotype.model | dict(arguments)
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in settings.items()
        if name not in _FREE
    }


def _report(weights: InitialWeights, given: Transfer, model: ScanBackbone, classes: int) -> tuple[str, ...]:
    total = len(given.tensors) + len(given.fresh)
    lines = [f"{len(given.tensors)} of {total} tensors loaded from {weights.path}", *given.changed]
    if weights.genotype is None:
        lines.append("the file does not tell its directions: they could not be compared")
    if any(name.startswith("head.") for name in given.fresh):
        before = weights.tensors.get("head.weight")
        earlier = "none in the file" if before is None else f"{len(before)} classes before"
        lines.append(f"fresh head for {classes} classes ({earlier})")
    if model.num_classes == 0:
        lines.append(f"the backbone starts from there; the decoder for {classes} classes is fresh")
    return tuple(lines)
