"""``scansearch evaluate``: the score of a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scansearch.cli.options import AsJson, Device, ImageSize, data_option, image_size, option

if TYPE_CHECKING:
    from scansearch.tasks.protocol import ScoreRecord

Subject = Annotated[
    str,
    typer.Argument(
        metavar="CHECKPOINT",
        help="A training's run folder, a .safetensors weight file, a timm hub folder, a .pt2 or a .onnx file.",
    ),
]
Data = Annotated[str | None, data_option("what it was trained on")]
Split = Annotated[str, option(help="test, or validation (val)")]
Crop = Annotated[float | None, option(help="Share of the short side that the central crop of pictures keeps")]
Scales = Annotated[
    str | None, option(help="Of masks: average over these factors of the size, for example 0.75,1,1.25")
]
Flip = Annotated[bool, option("--flip", help="Of masks: average with the answer to the mirrored picture")]
BatchSize = Annotated[int, option(help="Images at a time")]
Precision = Annotated[str, option("--mixed-precision", help="no or bf16")]
Workers = Annotated[int, option(help="Processes that read images")]
Out = Annotated[
    Path | None, option(help="Folder for evaluation.json and confusion.png, or the found objects")
]


def evaluate(
    subject: Subject,
    data: Data = None,
    split: Split = "test",
    size: ImageSize = None,
    crop: Crop = None,
    scales: Scales = None,
    flip: Flip = False,
    batch_size: BatchSize = 64,
    device: Device = "auto",
    mixed_precision: Precision = "no",
    workers: Workers = 0,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Score a trained model: top-1, top-5, loss, accuracy of each class, confusion matrix, throughput.

    Of a segmentation: mIoU, accuracy of pixels, IoU of each class. Of a detection: AP of boxes and masks.
    """
    import json

    from scansearch.cli.screen import print_json, print_lines
    from scansearch.errors import InputError
    from scansearch.evaluation.evaluate import evaluate as evaluate_file
    from scansearch.files.atomic import write_figure, write_text
    from scansearch.files.outputs import check_folder, make_folder
    from scansearch.plots.training import confusion_figure
    from scansearch.records.heads import PREDICTIONS
    from scansearch.text import choices

    if mixed_precision not in ("no", "bf16"):
        known = choices(mixed_precision, ("no", "bf16"))
        raise InputError(f"--mixed-precision {mixed_precision!r} is unknown {known}")
    check_folder(out)
    literals: Any = {"split": split, "mixed_precision": mixed_precision}
    evaluation = evaluate_file(
        subject,
        data=data,
        image_size=image_size(size),
        crop=crop,
        scales=None if scales is None else _numbers(scales),
        flip=flip,
        batch_size=batch_size,
        device=device or "auto",
        workers=workers,
        **literals,
    )
    if out is not None:
        make_folder(out)
        write_text(out / "evaluation.json", evaluation.to_json())
        second = "confusion.png" if hasattr(evaluation, "confusion") else PREDICTIONS
        if hasattr(evaluation, "confusion"):
            write_figure(out / second, confusion_figure(evaluation))
        else:
            write_text(out / second, evaluation.predictions_json())
    if as_json:
        print_json([json.loads(evaluation.to_json())])
    else:
        _show(evaluation)
        if out is not None:
            print_lines([f"written to {out}: evaluation.json, {second}"])


def _numbers(text: str) -> list[float]:
    from scansearch.errors import InputError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"--scales {text!r}: expected numbers with commas between, such as 0.75,1,1.25"
        ) from None


def _show(evaluation: ScoreRecord) -> None:
    from scansearch.cli.screen import print_lines, print_table

    counts = evaluation.class_counts
    print_table(
        ("class", evaluation.counted, evaluation.class_title),
        [
            (name, str(counts[name]), "" if score is None else f"{score:.2f} %")
            for name, score in evaluation.per_class.items()
        ],
    )
    lines = [
        "",
        *evaluation.figure_lines(),
        f"{evaluation.images_per_second:.1f} images/s on {evaluation.device}",
    ]
    if evaluation.skipped:
        lines.append(f"{evaluation.skipped} images could not be read and do not count")
    lines += [f"data: {note}" for note in evaluation.notes]
    print_lines(lines)
