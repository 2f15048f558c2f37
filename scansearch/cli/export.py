"""``scansearch export``: a genotype or a trained model as files for others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Subject = Annotated[
    str,
    typer.Argument(
        help="Genotype file, run folder, weight file, or name of a published model.", metavar="GENOTYPE|RUN"
    ),
]
Format = Annotated[
    str, typer.Option("--format", help="yaml, timm, standalone, safetensors, torch-export, onnx or hub.")
]
Out = Annotated[Path, typer.Option(help="The file to write; a folder for hub.")]
Weights = Annotated[
    Path | None, typer.Option(help="Weight file; default: the run's best, else fresh weights.")
]
Seed = Annotated[int, typer.Option(help="Seed of fresh weights.")]
Classes = Annotated[
    int | None,
    typer.Option("--num-classes", help="Size of the classifier; default: the weights', else 1000."),
]
Channels = Annotated[
    int | None, typer.Option("--in-chans", help="Channels of the images; default: the weights', else 3.")
]
ImageSize = Annotated[
    int | None, typer.Option("--img-size", help="Side in pixels; default: the model's own.")
]
Name = Annotated[
    str | None, typer.Option("--name", help="What the model is called in timm; default: the file's name.")
]


def export(
    subject: Subject,
    format: Format,
    out: Out,
    weights: Weights = None,
    seed: Seed = 0,
    num_classes: Classes = None,
    in_chans: Channels = None,
    img_size: ImageSize = None,
    name: Name = None,
) -> None:
    """Write a model in another form, and check that it computes the same.

    The exported model runs on random images; where its logits differ from the source's, no file is left.
    """
    from scansearch.exporting import export as write

    done = write(
        subject,
        format,
        out,
        weights=weights,
        seed=seed,
        num_classes=num_classes,
        in_chans=in_chans,
        img_size=img_size,
        name=name,
    )
    print(
        f"{done.out}: {done.format} of {done.name}, {done.weights}; largest difference {done.difference:.1e}"
    )
