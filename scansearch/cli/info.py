"""Commands that list what there is: spaces, directions, version."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from scansearch.cli.options import AsJson, option
from scansearch.cli.screen import print_json, print_lines, show_rows


@dataclass(frozen=True)
class SpaceRow:
    """One variant of a search space."""

    space: str
    family: str
    variant: str
    default: bool
    image_size: int
    layers: int
    candidates: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class DirectionRow:
    """One family of directions."""

    direction: str
    order: str
    source: str


@dataclass(frozen=True)
class StepRow:
    """One step of an order: the token that it visits."""

    step: int
    row: int
    column: int


def spaces(as_json: AsJson = False) -> None:
    """List the search spaces that come with scansearch."""
    from scansearch.records.space import load_space, space_names, spaces_folder

    rows = [
        SpaceRow(
            space=space.name,
            family=space.family,
            variant=name,
            default=name == space.default_variant,
            image_size=variant.image_size,
            layers=variant.layers,
            candidates=space.layer_candidates(name),
        )
        for space in map(load_space, space_names())
        for name, variant in space.variants.items()
    ]
    headings = ("space", "family", "variant", "image", "layers", "candidates")
    if show_rows(rows, headings, _space_cells(rows), as_json=as_json, left=6):
        print_lines(["", f"Files: {spaces_folder()}"])


def _space_cells(rows: list[SpaceRow]) -> Callable[[SpaceRow], tuple[str, ...]]:
    """A row as text; what all variants of a space share stands in the first of them."""
    first = {row.space: row for row in reversed(rows)}

    def cells(row: SpaceRow) -> tuple[str, ...]:
        head = row is first[row.space]
        return (
            row.space if head else "",
            row.family if head else "",
            row.variant + (" (default)" if row.default else ""),
            f"{row.image_size}x{row.image_size}",
            str(row.layers),
            " ".join(row.candidates[0]) if head else "",
        )

    return cells


def directions(
    height: Annotated[int, option(help="Rows of the grid on which --show draws")] = 4,
    width: Annotated[int, option(help="Columns of that grid")] = 6,
    show: Annotated[str | None, option(help="Print the order of this direction, for example w2_flip")] = None,
    as_json: AsJson = False,
) -> None:
    """List the scan directions, or print the order of one on a small grid."""
    from scansearch.directions import direction_families

    if show is not None:
        _show_order(show, height, width, as_json)
        return
    rows = [DirectionRow(family.pattern, family.summary, family.source) for family in direction_families()]
    headings = ("direction", "order", "source")
    if show_rows(rows, headings, lambda row: (row.direction, row.order, row.source), as_json=as_json, left=3):
        print_lines(
            ["", "Each has a reversed twin with the suffix _flip. <K> and the like stand for a number."]
        )


def _show_order(name: str, height: int, width: int, as_json: bool) -> None:
    from scansearch.directions import parse_direction

    order = parse_direction(name).order(height, width, "skip").tolist()
    if as_json:
        print_json(StepRow(step, token // width, token % width) for step, token in enumerate(order, 1))
        return
    print_lines(numbered_order(name, height, width))


def numbered_order(name: str, height: int, width: int) -> list[str]:
    """A grid as text: in the place of each token the step at which the direction ``name`` visits it, from 1."""
    from scansearch.directions import parse_direction

    order = parse_direction(name).order(height, width, "skip").tolist()
    steps = {token: step for step, token in enumerate(order, 1)}
    digits = len(str(height * width))
    return [
        " ".join(f"{steps[row * width + column]:{digits}d}" for column in range(width))
        for row in range(height)
    ]


def version() -> None:
    """Print the version."""
    from scansearch._version import __version__

    print(f"scansearch {__version__}")
