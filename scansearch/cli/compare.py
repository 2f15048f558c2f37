"""``scansearch compare``: several runs in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs.")]
Out = Annotated[Path | None, typer.Option(help="Folder for compare.csv, compare.md and compare.png.")]
Latency = Annotated[bool, typer.Option("--latency", help="Measure the latency of trained models here, too.")]
Device = Annotated[str, typer.Option(help="Where --latency measures: cpu or cuda.")]


def compare(runs: Runs, out: Out = None, latency: Latency = False, device: Device = "cpu") -> None:
    """Compare finished runs: score with its spread over seeds, parameters, FLOPs and latency.

    Runs that differ in nothing but their seed share a row.
    """
    from rich.table import Table

    from scansearch.analysis.compare import HEADINGS, cells, to_csv, to_markdown
    from scansearch.analysis.compare import compare as compare_runs
    from scansearch.cli.screen import wide_console
    from scansearch.errors import InputError, RunStopped
    from scansearch.files.atomic import write_figure, write_text
    from scansearch.plots.training import comparison_figure

    rows = compare_runs(runs, latency_device=device if latency else None)
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
            write_text(out / "compare.csv", to_csv(rows))
            write_text(out / "compare.md", to_markdown(rows))
            write_figure(out / "compare.png", comparison_figure([row.record() for row in rows]))
        except (OSError, RunStopped) as error:
            raise InputError(f"--out {out}: {error}") from None
    table = Table(*HEADINGS, box=None, pad_edge=False)
    for column in table.columns[3:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*cells(row))
    wide_console().print(table, highlight=False)
