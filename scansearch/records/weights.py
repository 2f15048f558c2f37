"""Weight files: a safetensors file that holds a model's weights and, in its header, all that builds the model.

Header entries: ``genotype`` (the genotype's YAML; of a baseline from timm ``timm_model``), ``arguments`` (JSON: further
arguments of the model's class, such as num_classes, in_chans and img_size), ``notes`` (JSON: where the weights come
from, and ``treatment``, what their images are), ``head`` (JSON, of a model with a head of its own: ``KeptHead``) and
``sha256``, the digest of all that: files of earlier versions have neither treatment nor digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from scansearch.data.treatment import Treatment
from scansearch.errors import InputError
from scansearch.files.atomic import write_bytes
from scansearch.files.regular import similar
from scansearch.files.strict import parse_json, parse_yaml, validate
from scansearch.records.genotype import Genotype
from scansearch.records.heads import KeptHead
from scansearch.records.timm_model import TimmModel, TrainedModel

if TYPE_CHECKING:
    from torch import Tensor, nn

    from scansearch.models.backbone import ScanBackbone
    from scansearch.models.dense import DenseModel

_DIGEST = "sha256"
_ENTRIES = frozenset(["format", "genotype", "timm_model", "arguments", "notes", "head", _DIGEST])


class _OfAModel:
    """What a weight file says that it holds the weights of."""

    trained: TrainedModel

    @property
    def genotype(self) -> Genotype:
        """The directions.

        Raises:
            InputError: a baseline from timm, which scans nothing.
        """
        if isinstance(self.trained, TimmModel):
            raise InputError(
                f"{self.trained.title} is a baseline, which has no genotype: evaluate and compare take it"
            )
        return self.trained


@dataclass(frozen=True)
class Weights(_OfAModel):
    """A weight file's content; ``model`` is in evaluation mode, on the CPU."""

    model: ScanBackbone | DenseModel
    trained: TrainedModel
    arguments: dict[str, Any]
    notes: dict[str, Any]
    treatment: Treatment | None = None
    head: KeptHead | None = None

    @property
    def in_chans(self) -> int:
        """Channels of the images that the model takes."""
        known = self.arguments.get("in_chans")
        return int(self.model.in_chans if known is None else known)

    @property
    def task(self) -> str:
        """What the model was trained for."""
        return "classify" if self.head is None else self.head.task


@dataclass(frozen=True)
class WeightHeader(_OfAModel):
    """The header of a weight file: what was trained, further arguments of its class, notes, and the treatment."""

    trained: TrainedModel
    arguments: dict[str, Any]
    notes: dict[str, Any]
    treatment: Treatment | None = None
    head: KeptHead | None = None


def save_weights(
    path: Path,
    model: nn.Module,
    trained: TrainedModel,
    arguments: Mapping[str, Any],
    notes: Mapping[str, Any],
    treatment: Treatment | None = None,
    head: KeptHead | None = None,
) -> None:
    """Write the weights of ``model``, which is ``trained.build(**arguments)`` and ``head`` on it, atomically."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    described = {} if treatment is None else {"treatment": treatment.model_dump(mode="json")}
    header = {
        "format": "pt",
        "timm_model" if isinstance(trained, TimmModel) else "genotype": trained.to_yaml(),
        "arguments": json.dumps(dict(arguments)),
        "notes": json.dumps(dict(notes) | described),
    }
    if head is not None:
        header["head"] = head.model_dump_json()
    write_bytes(path, save(tensors, metadata=header | {_DIGEST: _digest(header, tensors)}))


def load_weights(path: str | Path) -> Weights:
    """The model in a weight file. Nothing in the file is executed.

    Raises:
        InputError: no such file, no weight file of ours, a damaged one, or weights that do not fit its model.
    """
    import torch

    path = Path(path)
    entries, tensors = _read(path)
    header = _header(path, entries)
    trained, arguments = header.trained, header.arguments
    try:
        if isinstance(trained, TimmModel):
            with torch.random.fork_rng(devices=[]):  # it is made with weights, which the file's then replace
                model = cast("ScanBackbone", trained.build(**arguments))
            model.load_state_dict(tensors)
            return Weights(model.eval(), trained, arguments, header.notes, header.treatment)
        arguments = _from_shapes(tensors) | arguments
        # On the meta device a false header costs no memory: only tensors of the file become weights.
        with torch.device("meta"):
            backbone = cast("ScanBackbone", trained.build(**arguments))
            whole = backbone if header.head is None else _with_head(backbone, header.head)
        whole.load_state_dict(tensors, assign=True)
    except (RuntimeError, TypeError, ValueError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        what = "model" if isinstance(trained, TimmModel) else "genotype"
        raise InputError(f"{path}: the weights do not fit the {what}: {' '.join(lines[:3])}") from None
    return Weights(whole.eval(), trained, arguments, header.notes, header.treatment, header.head)


def _with_head(backbone: ScanBackbone, head: KeptHead) -> DenseModel:
    if head.task == "detect":
        from scansearch.models.detection import DetectionModel, make_detector

        return DetectionModel(backbone, make_detector(backbone, head.classes, **head.options.arguments()))
    from scansearch.models.segmentation import SegmentationModel, make_decoder

    return SegmentationModel(backbone, make_decoder(backbone, head.classes, **head.options.arguments()))


def read_header(path: str | Path) -> WeightHeader:
    """What the header of a weight file says; no weights are read.

    Raises:
        InputError: no such file, or no weight file of ours.
    """
    return _header(Path(path), _entries(Path(path)))


def has_model(path: str | Path) -> bool:
    """Whether a safetensors file is a weight file of ours, and not a plain checkpoint.

    Raises:
        InputError: no such file, or no safetensors file.
    """
    return _is_ours(_entries(Path(path)))


def described_model(path: Path) -> str | None:
    """The registered model that a plain checkpoint says it belongs to, as `scansearch convert` writes it.

    Raises:
        InputError: no such file, or no safetensors file.
    """
    return _entries(path).get("model")


def _header(path: Path, entries: Mapping[str, str]) -> WeightHeader:
    if not _is_ours(entries):
        raise InputError(f"{path}: no genotype in the header, so not a weight file of scansearch")
    trained: TrainedModel
    if "genotype" in entries:
        source = f"{path}: genotype in the header"
        trained = validate(parse_yaml(entries["genotype"], source=source), Genotype, source=source)
    else:
        source = f"{path}: timm_model in the header"
        trained = validate(parse_yaml(entries["timm_model"], source=source), TimmModel, source=source)
    arguments, notes = (
        _mapping(entries.get(name, "{}"), f"{path}: {name}") for name in ("arguments", "notes")
    )
    tuples = {name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()}
    rest, treatment = _treatment(notes, tuples, trained, f"{path}: notes")
    head = None
    if "head" in entries:
        head = parse_json(entries["head"], KeptHead, source=f"{path}: head in the header")
    return WeightHeader(trained, tuples, rest, treatment, head)


def _treatment(
    notes: dict[str, Any], arguments: Mapping[str, Any], trained: TrainedModel, source: str
) -> tuple[dict[str, Any], Treatment | None]:
    """``notes`` without what they say of images and classes, and that as one value."""
    rest = {
        name: value for name, value in notes.items() if name not in ("treatment", "classes", "mean", "std")
    }
    if "treatment" in notes:
        return rest, validate(notes["treatment"], Treatment, source=f"{source}: treatment")
    size = arguments.get("img_size", trained.model.get("img_size") if isinstance(trained, Genotype) else None)
    if "classes" not in notes or size is None:
        return notes, None
    size = [size, size] if isinstance(size, int) else size
    earlier = {"image_size": size, **{name: notes.get(name) for name in ("classes", "mean", "std")}}
    return rest, validate(earlier, Treatment, source=source)


def _is_ours(entries: Mapping[str, str]) -> bool:
    return "genotype" in entries or "timm_model" in entries


def _entries(path: Path) -> dict[str, str]:
    with _opened(path) as file:
        return file.metadata() or {}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, ours or a plain one.

    Raises:
        InputError: no such file, no safetensors file, or one of ours that is damaged.
    """
    return _read(path)[1]


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    with _opened(path) as file:
        names = list(file.keys())
        entries, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in names}
    # A damaged name of the digest's own entry must not make a file pass for one without.
    damaged = _is_ours(entries) and not _ENTRIES.issuperset(entries)
    if damaged or (_DIGEST in entries and entries[_DIGEST] != _digest(entries, tensors)):
        raise InputError(f"{path}: the file is damaged: its checksum does not match")
    return entries, tensors


def _digest(entries: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over everything in the file but the digest."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(set(entries) - {_DIGEST}):
        digest.update(json.dumps([name, entries[name]]).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, list(tensor.shape), str(tensor.dtype)]).encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"weight file {str(path)!r} does not exist{similar(path)}")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: not a safetensors file ({error})") from None


def _mapping(text: str, source: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise InputError(f"{source} in the header: not a JSON object")
    return data


def _from_shapes(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Classes and channels as the tensors tell them, for files that name no arguments."""
    head, stem = tensors.get("head.weight"), tensors.get("patch_embed.proj.weight")
    sizes = {"num_classes": 0 if head is None or not head.ndim else len(head)}
    return sizes if stem is None or stem.ndim < 2 else sizes | {"in_chans": stem.shape[1]}
