"""Opening whatever holds a trained model: run folders, weight files, timm hub folders, .pt2 and .onnx exports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scansearch.data.treatment import Treatment, height_and_width
from scansearch.errors import InputError, MissingExtra
from scansearch.files.strict import parse_json
from scansearch.records.genotype import Genotype
from scansearch.records.lookup import BEST_WEIGHTS, look_up


@dataclass(frozen=True)
class Predictor:
    """A model that can be scored.

    Attributes:
        predict: images [batch, channels, height, width] on the device -> logits [batch, classes], of task ``segment``
            [batch, classes, height, width].
        channels, image_size: what it takes; None where that is free or not known.
        treatment: what its images were in the training, and its classes, where the file tells.
        data: the specification that it was trained on, where the file tells.
        genotype: hash of its genotype, where the file tells.
    """

    name: str
    predict: Callable[[Tensor], Tensor]
    channels: int | None = None
    image_size: tuple[int, int] | None = None
    treatment: Treatment | None = None
    data: str | None = None
    genotype: str | None = None
    task: str = "classify"


def open_predictor(path: str | Path, device: torch.device, *, command: str = "evaluate") -> Predictor:
    """The model in ``path`` on ``device``; ``command`` asks for it, for messages.

    Raises:
        InputError: it holds no model that can be read.
    """
    named = look_up(path, ("training", "weights", "exported"), command=command)
    assert named.path is not None
    if named.kind == "exported":
        readers = {".pt2": _exported_program, ".onnx": _onnx}
        return readers.get(named.path.suffix, _hub_folder)(named.path, device)
    if named.weight_file is None:
        raise InputError(
            f"the training in {str(path)!r} holds no {BEST_WEIGHTS} yet: it has not ended an epoch"
        )
    return _weight_file(named.weight_file, device)


def _weight_file(path: Path, device: torch.device) -> Predictor:
    from scansearch.records.weights import load_weights

    weights = load_weights(path)
    genotype = weights.trained if isinstance(weights.trained, Genotype) else None
    size = weights.arguments.get("img_size")
    data = weights.notes.get("data")
    if genotype is not None:
        size = size or genotype.model.get("img_size")
        data = data if isinstance(data, str) else genotype.provenance.data
    return Predictor(
        str(path),
        weights.model.to(device),
        channels=weights.in_chans,
        image_size=_pair(size),
        treatment=weights.treatment,
        data=data if isinstance(data, str) else None,
        genotype=None if genotype is None else genotype.hash,
        task=weights.task,
    )


def _pair(size: Any) -> tuple[int, int] | None:
    if isinstance(size, int):
        return size, size
    return (int(size[0]), int(size[1])) if isinstance(size, list | tuple) and len(size) == 2 else None


def _hub_folder(path: Path, device: torch.device) -> Predictor:
    from scansearch.evaluation.hub_folder import load_hub_folder

    hub = load_hub_folder(path)
    size = height_and_width(hub.treatment.image_size) if hub.treatment is not None else None
    return Predictor(str(path), hub.model.to(device), hub.channels, size, hub.treatment)


def _exported_program(path: Path, device: torch.device) -> Predictor:
    from scansearch.exporting.read_program import load_program, read_treatment

    program = load_program(path)
    inputs = [
        node
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in program.graph_signature.user_inputs
    ]
    if len(inputs) != 1 or inputs[0].meta["val"].ndim != 4:
        raise InputError(f"{path}: must have one input, the images [batch, channels, height, width]")
    (placeholder,) = inputs
    channels, size = _shape(placeholder.meta["val"].shape)
    module = program.module().to(device)
    return Predictor(str(path), _failing_in_one_line(path, module), channels, size, read_treatment(path))


def _failing_in_one_line(path: Path, predict: Callable[[Tensor], Any]) -> Callable[[Tensor], Tensor]:
    """``predict`` of a graph from a file: whatever it raises, or gives in place of logits, is the file's fault."""

    def checked(images: Tensor) -> Tensor:
        try:
            logits = predict(images)
        except Exception as error:
            raise InputError(
                f"{path}: cannot compute images of shape {list(images.shape)}: {_first_line(error)}"
            ) from None
        if not isinstance(logits, Tensor) or not logits.is_floating_point():
            raise InputError(f"{path}: gives no logits")
        return logits

    return checked


def _onnx(path: Path, device: torch.device) -> Predictor:
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtra("onnxruntime", "onnx", f"evaluating {path}") from None
    try:
        session = onnxruntime.InferenceSession(str(path), providers=onnxruntime.get_available_providers())
    except Exception as error:  # onnxruntime's exceptions share no base but this
        raise InputError(f"{path}: onnxruntime cannot read it: {_first_line(error)}") from None
    if len(session.get_inputs()) != 1 or len(session.get_outputs()) != 1:
        raise InputError(f"{path}: must have one input, the images, and one output, the logits")
    images = session.get_inputs()[0]
    if images.type != "tensor(float)" or len(images.shape) != 4:
        raise InputError(f"{path}: takes {images.type} of shape {images.shape}, not float images of 4 axes")

    def predict(x: Tensor) -> Tensor:
        (logits,) = session.run(None, {images.name: x.cpu().numpy()})
        return torch.from_numpy(logits).to(device)

    channels, size = _shape(images.shape)
    described = session.get_modelmeta().custom_metadata_map.get("treatment")
    treatment = None
    if described is not None:
        treatment = parse_json(described, Treatment, source=f"{path}: treatment")
    return Predictor(str(path), _failing_in_one_line(path, predict), channels, size, treatment)


def _shape(shape: Any) -> tuple[int | None, tuple[int, int] | None]:
    """Channels and size of an input [batch, channels, height, width]; None for what is not fixed."""
    _, channels, *sides = shape
    size = (int(sides[0]), int(sides[1])) if all(isinstance(side, int) for side in sides) else None
    return channels if isinstance(channels, int) else None, size


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
