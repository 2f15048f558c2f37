"""``scansearch evaluate``: the score of a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from scansearch.evaluation.evaluate import Evaluation

Subject = Annotated[
    Path,
    typer.Argument(
        metavar="CHECKPOINT",
        help="A training's run folder, a .safetensors weight file, a timm hub folder, a .pt2 or a .onnx file.",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        help="digits, folder:PATH, timm:NAME, fake:HxW:classes or translated-digits; default: what it was trained on."
    ),
]
Split = Annotated[str, typer.Option(help="test or validation.")]
ImageSize = Annotated[
    str | None, typer.Option("--img-size", help="Side, or HEIGHTxWIDTH, in pixels; default: the model's.")
]
Crop = Annotated[
    float | None, typer.Option(help="Share of the short side that the central crop of pictures keeps.")
]
BatchSize = Annotated[int, typer.Option(help="Images at a time.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Precision = Annotated[str, typer.Option("--mixed-precision", help="no or bf16.")]
Workers = Annotated[int, typer.Option(help="Processes that read images.")]
Out = Annotated[Path | None, typer.Option(help="Folder for evaluation.json and confusion.png.")]


def evaluate(
    subject: Subject,
    data: Data = None,
    split: Split = "test",
    img_size: ImageSize = None,
    crop: Crop = None,
    batch_size: BatchSize = 64,
    device: Device = "auto",
    mixed_precision: Precision = "no",
    workers: Workers = 0,
    out: Out = None,
) -> None:
    """Score a trained model: top-1, top-5, loss, accuracy of each class, confusion matrix, throughput."""
    from scansearch.errors import InputError, RunStopped
    from scansearch.evaluation.evaluate import evaluate as evaluate_file
    from scansearch.files.atomic import write_figure, write_text
    from scansearch.plots.training import confusion_figure

    if mixed_precision not in ("no", "bf16"):
        raise InputError(f"--mixed-precision {mixed_precision!r} is unknown (allowed: no, bf16)")
    chosen: Any = {"split": split, "mixed_precision": mixed_precision}
    found = evaluate_file(
        subject,
        data=data,
        image_size=None if img_size is None else _size(img_size),
        crop=crop,
        batch_size=batch_size,
        device=device,
        workers=workers,
        **chosen,
    )
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
            write_text(out / "evaluation.json", found.to_json())
            write_figure(out / "confusion.png", confusion_figure(found))
        except (OSError, RunStopped) as error:
            raise InputError(f"--out {out}: {error}") from None
    _show(found)


def _size(text: str) -> tuple[int, int]:
    from scansearch.errors import InputError

    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise InputError(f"--img-size {text!r}: expected a side such as 224, or HEIGHTxWIDTH such as 192x256")
    return int(sides[0]), int(sides[-1])


def _show(found: Evaluation) -> None:
    from rich.table import Table

    from scansearch.cli.screen import wide_console

    console = wide_console()
    table = Table("class", "images", "accuracy", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for (name, accuracy), row in zip(found.per_class.items(), found.confusion, strict=True):
        table.add_row(name, str(sum(row)), "" if accuracy is None else f"{accuracy:.2f} %")
    console.print(table, highlight=False)
    height, width = found.image_size
    lines = [
        "",
        f"top-1 {found.top1:.2f} %  top-5 {found.top5:.2f} %  loss {found.loss:.4f}  "
        f"on {found.images} {found.split} images of {found.data} at {height}x{width}",
        f"{found.images_per_second:.1f} images/s on {found.device}",
    ]
    if found.skipped:
        lines.append(f"{found.skipped} images could not be read and do not count")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
