"""``scansearch published``: published figures of the field beside our counts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from scansearch.cli.options import AsJson, option

Task = Annotated[str, option(help="classify, detect or segment")]
Out = Annotated[
    Path | None, option(help="Draw scores over FLOPs into this file, which ends in .png, .svg or .pdf")
]


def published(task: Task = "classify", out: Out = None, as_json: AsJson = False) -> None:
    """Show published scores, parameters and FLOPs of the field's models, with our counts of those that we build."""
    from scansearch.analysis.published import (
        COUNTED,
        HEADINGS,
        TASKS,
        cells,
        counted_cells,
        notes,
        published_rows,
    )
    from scansearch.cli.screen import print_lines, show_rows
    from scansearch.files.atomic import FIGURES, write_figure
    from scansearch.files.outputs import check_file, make_folder
    from scansearch.plots.published import published_figure

    check_file(out, FIGURES)
    rows = published_rows(task)
    if out is not None:
        make_folder(out.parent)
        points = [(row.model, row.group, row.flops, row.score) for row in rows]
        write_figure(out, published_figure(points, TASKS[task][0]))
    counted = any(row.ours for row in rows)
    headings = (*HEADINGS, *(COUNTED if counted else ()))
    if show_rows(
        rows,
        headings,
        lambda row: (*cells(row), *(counted_cells(row) if counted else ())),
        as_json=as_json,
        left=2,
    ):
        print_lines(["", *notes(rows, task)])
