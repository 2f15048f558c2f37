"""``scansearch probe``: whether a search is worth it on some data."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scansearch.cli.options import (
    AsJson,
    Augmentation,
    Channels,
    Device,
    Seed,
    Variant,
    data_option,
    given_options,
    image_size,
    image_size_option,
    k_option,
    option,
    settings_option,
)

if TYPE_CHECKING:
    from scansearch.analysis.probe import Probe

Data = Annotated[str, data_option()]
Space = Annotated[str, option(help="Search space: a name from `scansearch spaces`, or a YAML file")]
Directions = Annotated[int, k_option()]
Genotypes = Annotated[int, option(help="Genotypes to draw at random; all raster comes on top")]
Trainings = Annotated[int, option(help="Trainings of each genotype, with different seeds")]
Steps = Annotated[
    int | None, option(help="Steps of one training", default="as many as a search has, at most 600")
]
ImageSize = Annotated[str | None, image_size_option("that of the variant")]
Out = Annotated[
    Path | None,
    option(help="Folder; the same command goes on in it", default="one below runs/, named by the settings"),
]
Settings = Annotated[list[str] | None, settings_option("lr=0.01")]


def probe(
    context: typer.Context,
    data: Data,
    space: Space = "vim8",
    variant: Variant = None,
    k: Directions = 4,
    genotypes: Genotypes = 8,
    trainings: Trainings = 2,
    steps: Steps = None,
    size: ImageSize = None,
    channels: Channels = None,
    augment: Augmentation = None,
    seed: Seed = None,
    device: Device = "auto",
    out: Out = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Is a search worth it on this data? Train a few random genotypes briefly and compare them with their seeds."""
    from rich.console import Console

    from scansearch.analysis.probe import probe as run_probe
    from scansearch.data.augment import expand_preset
    from scansearch.files.strict import apply_settings
    from scansearch.text import printable

    options: dict[str, Any] = {
        "data": data,
        "space": space,
        "variant": variant,
        "k": k,
        "genotypes": genotypes,
        "trainings": trainings,
        "steps": steps,
        "image_size": image_size(size),
        "channels": channels,
        "augment": augment,
        "seed": seed or 0,
        "device": device,
    }
    progress = Console(stderr=True)

    def show(line: str) -> None:
        progress.print(printable(line), highlight=False, markup=False, soft_wrap=True)

    chosen = apply_settings(expand_preset(options), settings or [])
    _show(run_probe(**chosen, out=out, observe=show, again=_again(context)), as_json)


def _again(context: typer.Context) -> str:
    """The command as it was given."""
    words = ["scansearch", "probe"]
    for name, flag in given_options(context).items():
        value = context.params[name]
        if value is True:
            words.append(flag)
        else:
            for one in value if isinstance(value, list | tuple) else [value]:
                words += [flag, str(one)]
    return shlex.join(words)


def _show(result: Probe, as_json: bool) -> None:
    from scansearch.analysis.probe import HEADINGS
    from scansearch.cli.screen import print_json, print_lines, print_table

    if as_json:
        print_json([result.record()])
        return
    print_table(HEADINGS, result.rows())
    *words, verdict = result.lines()
    print_lines(["", *words, f"written to {result.folder}: probe.md, probe.json", verdict])
