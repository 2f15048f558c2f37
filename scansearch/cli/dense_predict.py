"""``scansearch predict`` of models for masks and for objects: what was found, and pictures of it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from scansearch.evaluation.dense_predictions import DensePrediction
    from scansearch.evaluation.predictors import Predictor

_SHOWN = 8  # classes or objects of a picture in the table


def predict_pictures(
    predictor: Predictor, files: Sequence[str], *, device: str, out: Path | None, as_json: bool
) -> None:
    """Tell what ``predictor`` finds on ``files``; with ``out`` write the pictures with it there, as PNG.

    Raises:
        RunStopped: after all others, where a picture could not be read.
    """
    from scansearch.cli.screen import print_json, print_table, print_warning
    from scansearch.errors import RunStopped
    from scansearch.evaluation.dense_predictions import DensePrediction, predict_dense
    from scansearch.files.atomic import write_bytes
    from scansearch.files.outputs import check_folder, make_folder

    check_folder(out)
    assert predictor.treatment is not None
    classes = predictor.treatment.classes
    records: list[dict[str, Any]] = []
    rows: list[tuple[str, str]] = []
    broken, taken = 0, set()
    for result in predict_dense(predictor, files, device=device):
        if not isinstance(result, DensePrediction):
            broken += 1
            print_warning(f"warning: {result}")
            records.append({"image": result.name, "error": result.reason})
            continue
        record = _record(result, classes)
        if out is not None:
            make_folder(out)
            name, number = Path(result.image).stem, 2
            while name in taken:
                name, number = f"{Path(result.image).stem}-{number}", number + 1
            taken.add(name)
            write_bytes(out / f"{name}.png", _png(_painted(result, classes)))
            record["picture"] = str(out / f"{name}.png")
        records.append(record)
        rows.append((result.image, _words(record)))
    if as_json:
        print_json(records)
    elif rows:
        print_table(("image", "found"), rows, left=2)
    if broken:
        raise RunStopped(f"{broken} of {len(files)} images could not be read")


def _record(result: DensePrediction, classes: Sequence[str]) -> dict[str, Any]:
    """What was found, as JSON has it: the share of pixels of each class that occurs, or the objects."""
    if result.mask is None:
        return {"image": result.image, "objects": list(result.objects)}
    counts = np.bincount(result.mask.ravel(), minlength=len(classes))
    shares = sorted(zip(classes, (counts / counts.sum()).tolist(), strict=True), key=lambda pair: -pair[1])
    return {
        "image": result.image,
        "classes": [{"class": name, "share": share} for name, share in shares if share],
    }


def _words(record: dict[str, Any]) -> str:
    if "classes" in record:
        parts = [f"{one['class']} {100 * one['share']:.1f} %" for one in record["classes"]]
    else:
        parts = [f"{one['class']} {one['score']:.2f}" for one in record["objects"]] or ["nothing"]
    more = f"  and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
    return "  ".join(parts[:_SHOWN]) + more


def _painted(result: DensePrediction, classes: Sequence[str]) -> np.ndarray:
    """The picture under what was found, float [height, width, 3] in 0..1."""
    from scansearch.data.instances.run_lengths import decode_mask
    from scansearch.plots.masks import class_colours, overlay
    from scansearch.plots.objects import ShownObjects, objects_overlay

    if result.mask is not None:
        return overlay(result.picture, result.mask, class_colours(len(classes)))
    size = result.picture.shape[:2]
    masks = [decode_mask(one["segmentation"], *size) for one in result.objects]
    labels = [list(classes).index(one["class"]) for one in result.objects]
    shown = ShownObjects(np.zeros((0, 4)), labels, np.array(masks).reshape(-1, *size))
    colours = class_colours(len(classes) + 1)[1:]
    painted = objects_overlay(result.picture, shown, colours)
    for one, label in zip(result.objects, labels, strict=True):
        left, top, wide, high = one["bbox"]
        columns = np.clip(np.round([left, left + wide]).astype(int), 0, [size[1] - 1, size[1]])
        rows = np.clip(np.round([top, top + high]).astype(int), 0, [size[0] - 1, size[0]])
        frame = painted[rows[0] : rows[1], columns[0] : columns[1]]
        frame[[0, -1] if len(frame) else []] = colours[label]
        frame[:, [0, -1] if frame.shape[1] else []] = colours[label]
    return painted


def _png(painted: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray((255 * painted.clip(0, 1)).round().astype(np.uint8)).save(file, format="PNG")
    return file.getvalue()
