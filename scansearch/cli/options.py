"""Options that several commands share, declared once; and which options were given."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from scansearch.data.specifications import BOXED, MASKED, PRESETS, SPECIFICATIONS
from scansearch.records.trackers import TRACKERS


def one_of(names: Iterable[str]) -> str:
    """``a, b or c``"""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def option(*flags: str, help: str, default: str = "") -> Any:
    """An option with its help; ``default`` says in words what holds without it."""
    return typer.Option(*flags, help=f"{help}; default: {default}." if default else f"{help}.")


def budget_option(*flags: str, help: str) -> Any:
    """An option that takes 20M and 1.5G."""
    return typer.Option(*flags, help=f"{help}.", parser=_budget, metavar="NUMBER")


def _budget(text: str | float) -> float:
    from scansearch.text import read_number

    try:
        return read_number(str(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def data_option(default: str = "") -> Any:
    return option(help=one_of(SPECIFICATIONS.values()), default=default)


def epochs_option(default: int) -> Any:
    return option("--epochs", help="Passes over the training images", default=str(default))


def settings_option(example: str) -> Any:
    return option("--set", help=f"Any field of the configuration, for example {example}; repeatable")


def task_option(default: str = "") -> Any:
    masked, boxed = one_of(MASKED.values()), one_of(BOXED.values())
    return option(
        "--task",
        help=f"classify pictures, segment them (--data is then {masked}) or detect their objects ({boxed})",
        default=default,
    )


def k_option(default: str = "") -> Any:
    return option("--k", help="Directions per layer", default=default)


# What runs: run, train.
Recipe = Annotated[
    Path | None,
    option("--config", help="A recipe, for example one of experiments/; other options override it"),
]
BatchSize = Annotated[int | None, option(help="Images per step", default="32")]
Seed = Annotated[int | None, option(help="Seed of all that is drawn at random", default="0")]
RunOut = Annotated[Path | None, option(help="Run folder", default="a new one below runs/")]
Resume = Annotated[
    Path | None, option(help="Continue the run in this folder; other options are then not allowed")
]
Track = Annotated[
    str | None,
    option(
        "--track",
        help=f"Show the figures of metrics.jsonl in a tracker too: {one_of(TRACKERS)}",
        default="none",
    ),
]
Quiet = Annotated[bool, option("--quiet", help="Show the result only")]
Device = Annotated[str | None, option(help="auto, cpu, cuda or mps (an Apple GPU, by the slow reference)")]


def image_size_option(default: str = "the model's own") -> Any:
    return option("--image-size", help="Side, or HEIGHTxWIDTH, in pixels", default=default)


def image_size(text: str | None) -> int | tuple[int, int] | None:
    """The value of :func:`image_size_option`.

    Raises:
        InputError: it is no size.
    """
    from scansearch.data.treatment import read_image_size
    from scansearch.errors import InputError

    try:
        size: int | tuple[int, int] | None = read_image_size(text)
    except ValueError as error:
        raise InputError(f"--image-size: {error}") from None
    return size


def image_side(text: str) -> int:
    """The value of :func:`image_size_option` where images are square.

    Raises:
        InputError: it is no side.
    """
    from scansearch.errors import InputError

    size = image_size(text)
    if not isinstance(size, int):
        raise InputError(f"--image-size {text}: here images are square, so give one side such as 224")
    return size


Variant = Annotated[
    str | None,
    option("--variant", help="Size of the models: a variant of the space", default="the space's own"),
]

Augmentation = Annotated[
    str | None,
    option(
        "--augment",
        help=f"How training pictures are changed: {one_of(PRESETS)} (crops and mirror images, as ImageNet is trained)",
        default="light, which never mirrors, or the data set's own way",
    ),
]

Balance = Annotated[
    str | None,
    option(
        "--balance",
        help="What makes rare classes count as much as frequent ones: none, weights (of the loss) or sampling",
        default="none",
    ),
]

Channels = Annotated[
    int | None,
    option(
        "--channels",
        help="Of a picture: 1 (grey), 3 (colour) or 4 (with opacity)",
        default="the search's on the same data, else 3, or what the data set has",
    ),
]

# What takes a search further: derive, evolve, rank.
SearchFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a search.")]
Measure = Annotated[
    str, option("--measure", help="Cost of the front: flops, params, or latency_ms where it was measured")
]
KMin = Annotated[int | None, option("--k-min", help="Instead of --k: at least so many")]
KMax = Annotated[int | None, option("--k-max", help="Instead of --k: at most so many")]
MaxFlops = Annotated[
    float | None, budget_option("--max-flops", help="Budget for one image, for example 1.5G")
]
MaxParams = Annotated[
    float | None, budget_option("--max-params", help="Budget of parameters, for example 20M")
]

# What builds or measures models: export, costs, bench.
ImageSize = Annotated[str | None, image_size_option()]
Classes = Annotated[
    int | None, option("--num-classes", help="Size of the classifier", default="the weights', else 1000")
]
MeasureOn = Annotated[str, option("--device", help="Where to measure: cpu or cuda")]
Latency = Annotated[bool, option("--latency", help="Measure the latency on this machine too")]
AsJson = Annotated[bool, option("--json", help="Print a list of objects instead of a table")]


def given_options(context: typer.Context) -> dict[str, str]:
    """The parameters that stand on the command line: name -> how it is written, ``--set`` or ``the model``."""
    written = {}
    for parameter in context.command.params:
        name, first = str(parameter.name), parameter.opts[0]
        if str(context.get_parameter_source(name)).endswith("COMMANDLINE"):
            written[name] = first if first.startswith("-") else f"the {first}"
    return written


def refuse_beside_resume(context: typer.Context) -> None:
    """An error if anything but --quiet stands beside --resume, which takes all from the run."""
    others = [text for name, text in given_options(context).items() if name not in ("resume", "quiet")]
    if others:
        raise typer.BadParameter(f"--resume takes everything from the run; leave out {others[0]}")
