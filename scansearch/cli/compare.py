"""``scansearch compare``: several runs in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scansearch.cli.options import (
    AsJson,
    Latency,
    MeasureOn,
    option,
)

Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs.")]
Out = Annotated[Path | None, option(help="Folder for compare.csv, compare.md and, of trainings, compare.png")]


def compare(
    runs: Runs, out: Out = None, latency: Latency = False, device: MeasureOn = "cpu", as_json: AsJson = False
) -> None:
    """Compare finished runs: score with its spread over seeds, parameters, FLOPs and latency.

    Runs that differ in nothing but their seed share a row.
    """
    from scansearch.analysis.compare import HEADINGS, cells, to_csv, to_markdown
    from scansearch.analysis.compare import compare as compare_runs
    from scansearch.cli.screen import show_rows
    from scansearch.files.atomic import write_figure, write_text
    from scansearch.files.outputs import check_folder, make_folder
    from scansearch.plots.training import comparison_figure

    check_folder(out)
    rows = compare_runs(runs, latency_device=device if latency else None)
    if out is not None:
        make_folder(out)
        write_text(out / "compare.csv", to_csv(rows))
        write_text(out / "compare.md", to_markdown(rows))
        trained = [row.record() for row in rows if row.kind == "train"]
        if trained:
            write_figure(out / "compare.png", comparison_figure(trained))
    show_rows(rows, HEADINGS, cells, as_json=as_json, left=4)
