"""Commands that list what there is: spaces, directions, version."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from scansearch.cli.screen import wide_console


def spaces() -> None:
    """List the search spaces that come with scansearch."""
    from scansearch.records.space import load_space, space_names, spaces_folder

    table = Table("space", "family", "variant", "image", "layers", "candidates", box=None, pad_edge=False)
    for name in space_names():
        space = load_space(name)
        for variant, sizes in space.variants.items():
            first = variant == next(iter(space.variants))
            candidates = " ".join(space.layer_candidates(variant)[0])
            mark = " (default)" if variant == space.default_variant else ""
            table.add_row(
                name if first else "",
                space.family if first else "",
                variant + mark,
                f"{sizes.image_size}x{sizes.image_size}",
                str(sizes.layers),
                candidates if first else "",
            )
    console = wide_console()
    console.print(table)
    console.print(f"\nFiles: {spaces_folder()}", soft_wrap=True, highlight=False)


def directions(
    height: Annotated[int, typer.Option(help="Rows of the grid on which --show draws.")] = 4,
    width: Annotated[int, typer.Option(help="Columns of that grid.")] = 6,
    show: Annotated[
        str | None, typer.Option(help="Print the order of this direction, for example w2_flip.")
    ] = None,
) -> None:
    """List the scan directions, or print the order of one on a small grid."""
    from scansearch.directions import direction_families, parse_direction

    console = wide_console()
    if show is not None:
        import numpy as np

        order = parse_direction(show).order(height, width, "skip")
        steps = np.empty(height * width, dtype=int)
        steps[order] = np.arange(1, height * width + 1)
        digits = len(str(height * width))
        for row in steps.reshape(height, width):
            console.print(" ".join(f"{step:{digits}d}" for step in row), highlight=False)
        return
    table = Table("direction", "order", "source", box=None, pad_edge=False)
    for family in direction_families():
        table.add_row(family.pattern, family.summary, family.source)
    console.print(table)
    console.print(
        "\nEach has a reversed twin with the suffix _flip. <K> and the like stand for a number.",
        soft_wrap=True,
    )


def version() -> None:
    """Print the version."""
    from scansearch._version import __version__

    print(f"scansearch {__version__}")
