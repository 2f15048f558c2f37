"""``scansearch plot``: pictures of runs, genotypes, spaces and scan directions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scansearch.cli.options import option

if TYPE_CHECKING:
    from scansearch.runs.pictures import PictureSubject

What = Annotated[
    list[str],
    typer.Argument(
        metavar="WHAT...",
        help="Run folder, genotype file, weight file, published model, search space, preferences file, or a scan "
        "direction such as w7_flip; several for the kinds that compare.",
    ),
]
KindOption = Annotated[
    str | None,
    option(
        "--kind",
        help="preferences or movement (of a search), curves (of a training), genotype, or paths (of scans); of "
        "several: agreement (of searches), comparison (of trainings), field (receptive fields of models)",
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
    from scansearch.analysis.several import SEVERAL
    from scansearch.cli.screen import print_lines
    from scansearch.data.decoding import read_picture
    from scansearch.errors import InputError
    from scansearch.files.atomic import FIGURES, write_figure
    from scansearch.files.outputs import check_file, make_folder, numbered
    from scansearch.runs.pictures import PICTURES, check_picture, draw, picture_subject
    from scansearch.text import choices

    check_file(out, FIGURES)
    if kind is not None and kind not in (*PICTURES, *SEVERAL):
        raise InputError(f"unknown kind {kind!r} {choices(kind, (*PICTURES, *SEVERAL))}")
    if kind in SEVERAL or len(what) > 1:
        _draw_several(what, kind, out, {"--image": image, "--layer": layer, "--grid": grid})
        return
    subject = picture_subject(what[0])
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


def _draw_several(names: list[str], kind: str | None, out: Path | None, others: dict[str, object]) -> None:
    """The kinds that set several runs or models side by side."""
    from scansearch.analysis.several import SEVERAL, draw_several
    from scansearch.cli.screen import print_lines
    from scansearch.errors import InputError
    from scansearch.files.atomic import write_figure
    from scansearch.files.outputs import check_file, make_folder
    from scansearch.text import choices

    chosen = next((one for one in SEVERAL if one == kind), None)
    if chosen is None:
        what = "needs --kind" if kind is None else f"is not what --kind {kind} draws"
        raise InputError(f"more than one WHAT {what} {choices(str(kind), SEVERAL)}")
    for option_name, value in others.items():
        if value is not None:
            raise InputError(f"{option_name} does not go with --kind {chosen}")
    out = _free(chosen) if out is None else out
    check_file(out)
    figure, lines = draw_several(chosen, names)
    make_folder(out.parent)
    write_figure(out, figure)
    print_lines([*lines, f"written to {out}"])


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
    return _free(kind)


def _free(kind: str) -> Path:
    """A file in the working folder that there is not yet."""
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
