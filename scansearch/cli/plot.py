"""``scansearch plot``: pictures of runs, genotypes, spaces and scan directions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scansearch.cli.options import option

if TYPE_CHECKING:
    from scansearch.runs.pictures import PictureSubject

What = Annotated[
    str,
    typer.Argument(
        metavar="WHAT",
        help="Run folder, genotype file, weight file, published model, search space, preferences file, or a scan "
        "direction such as w7_flip.",
    ),
]
KindOption = Annotated[
    str | None,
    option(
        "--kind",
        help="preferences or movement (of a search), curves (of a training), genotype, or paths (of scans)",
        default="the most useful one",
    ),
]
Image = Annotated[Path | None, option(help="Draw scan paths over this picture")]
Layer = Annotated[
    int | None, option(help="Whose paths or movement", default="paths of layer 0, movement of all")
]
Grid = Annotated[str | None, option(help="ROWSxCOLUMNS of tokens, of paths", default="the layer's")]
Out = Annotated[
    Path | None,
    option(help="File that ends in .png, .svg or .pdf", default="a .png in the run's plots/, else here"),
]


def plot(
    what: What,
    kind: KindOption = None,
    image: Image = None,
    layer: Layer = None,
    grid: Grid = None,
    out: Out = None,
) -> None:
    """Draw a run, a genotype, a space or a scan direction, and tell its directions here.

    The movement of more than twelve layers becomes several files.
    """
    from scansearch.cli.screen import print_lines
    from scansearch.data.decoding import read_picture
    from scansearch.files.atomic import FIGURES, write_figure
    from scansearch.files.outputs import check_file, make_folder, numbered
    from scansearch.runs.pictures import check_picture, draw, picture_subject

    check_file(out, FIGURES)
    subject = picture_subject(what)
    tokens = _grid(grid)
    chosen = check_picture(subject, kind, image=image is not None, layer=layer, grid=tokens is not None)
    if out is None:
        out = _default_file(subject, chosen)
        check_file(out)
    pixels = None if image is None else read_picture(image)
    figures = draw(subject, chosen, image=pixels, layer=layer, grid=tokens)
    files = [out] if len(figures) == 1 else numbered(out, len(figures))
    make_folder(out.parent)
    for figure, file in zip(figures, files, strict=True):
        write_figure(file, figure)
    _show(subject, chosen, tokens)
    print_lines(f"written to {file}" for file in files)


def _grid(text: str | None) -> tuple[int, int] | None:
    from scansearch.data.treatment import read_image_size
    from scansearch.errors import InputError

    try:
        size = read_image_size(text)
    except ValueError:
        raise InputError(
            f"--grid {text!r}: expected a side such as 14, or ROWSxCOLUMNS such as 8x12"
        ) from None
    return (size, size) if isinstance(size, int) else size


def _default_file(subject: PictureSubject, kind: str) -> Path:
    """In the run's ``plots/``; elsewhere in the working folder, under a name that nothing has."""
    if subject.run is not None:
        return subject.run.folder / "plots" / f"{kind}.png"
    free = Path(f"{kind}.png")
    number = 2
    while free.exists():
        free, number = Path(f"{kind}-{number}.png"), number + 1
    return free


def _show(subject: PictureSubject, kind: str, grid: tuple[int, int] | None) -> None:
    from scansearch.cli.info import numbered_order
    from scansearch.cli.screen import print_lines, print_table
    from scansearch.display.sketch import sketch_side
    from scansearch.records.heads import FIGURES
    from scansearch.runs.pictures import best_epoch

    if subject.named is None:
        side = sketch_side(subject.name)
        print_lines(numbered_order(subject.name, *(grid or (side, side))))
    elif kind == "curves" and subject.run is not None:
        epochs = subject.run.metrics("epoch")
        best = best_epoch(subject)
        where = "" if best is None else f", the weights are of epoch {best}"
        name = next(name for name in FIGURES if f"validation_{name}" in epochs[-1])
        score = epochs[-1][f"validation_{name}"]
        print_lines([f"{len(epochs)} epochs{where}; validation {FIGURES[name]} at the end {score:.2f} %"])
    else:
        what = "candidates" if subject.genotype() is None else "directions"
        print_table(
            ("layer", what),
            [(str(layer), "  ".join(names)) for layer, names in enumerate(subject.layers())],
            left=2,
        )
