"""``scansearch export``: a genotype or a trained model as files for others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scansearch.cli.options import (
    Classes,
    ImageSize,
    Seed,
    image_size,
    one_of,
    option,
)
from scansearch.exporting import FORMATS

Subject = Annotated[
    str,
    typer.Argument(
        help="Genotype file, run folder, weight file, or name of a published model.", metavar="GENOTYPE|RUN"
    ),
]
Format = Annotated[str, option("--format", help=one_of(FORMATS))]
Out = Annotated[Path, option(help="The file to write; a folder for hub")]
Weights = Annotated[Path | None, option(help="Weight file", default="the run's best, else fresh weights")]
Channels = Annotated[
    int | None, option("--channels", help="Channels of the images", default="the weights', else 3")
]
Name = Annotated[
    str | None, option("--name", help="What the model is called in timm", default="the file's name")
]


def export(
    subject: Subject,
    format: Format,
    out: Out,
    weights: Weights = None,
    seed: Seed = None,
    num_classes: Classes = None,
    channels: Channels = None,
    size: ImageSize = None,
    name: Name = None,
) -> None:
    """Write a model in another form, and check that it computes the same.

    The exported model runs on random images; where its logits differ from the source's, no file is left.
    """
    from scansearch.exporting import export as write

    exported = write(
        subject,
        format,
        out,
        weights=weights,
        seed=seed or 0,
        num_classes=num_classes,
        in_chans=channels,
        img_size=image_size(size),
        name=name,
    )
    print(
        f"{exported.out}: {exported.format} of {exported.name}, {exported.weights}; "
        f"largest difference {exported.difference:.1e}"
    )
