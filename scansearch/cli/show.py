"""``scansearch show`` and ``scansearch list``: runs at a glance."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scansearch.cli.options import AsJson

if TYPE_CHECKING:
    from scansearch.runs.folder import Run
    from scansearch.runs.overview import RunOverview

AnyRun = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a search, a training or a probe.")]
Below = Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to look, however deep the runs lie.")]


def show(run: AnyRun, as_json: AsJson = False) -> None:
    """Tell what a run was asked, what came out or where it stopped, and what to type next."""
    from scansearch.cli.screen import print_json, print_lines, print_table
    from scansearch.runs.folder import Run
    from scansearch.runs.overview import asked, in_words, next_steps, outcome, overview, warnings

    seen = overview(run)
    whole = seen.kind != "probe" and seen.state != "damaged"
    opened = Run(run)
    settings = asked(opened) if whole else {}
    lines = outcome(opened, seen) if whole else _briefly(seen)
    told = warnings(opened) if whole else []
    following = next_steps(seen)
    if as_json:
        print_json([asdict(seen) | {"asked": settings, "warnings": told, "next": following}])
        return
    print_lines([f"{seen.kind} in {seen.folder}: {seen.progress}"])
    if settings:
        print_lines(["", "asked"])
        print_table(("", ""), [(name, in_words(value)) for name, value in settings.items()], left=2)
    print_lines(["", "found", *(f"  {line}" for line in lines)])
    if whole and (opened.folder / "genotype.yaml").is_file():
        print_lines([""])
        _layers(opened)
    if told:
        print_lines(["", *(f"warning: {line}" for line in told)])
    if following:
        print_lines(["", "next:", *(f"  {command}" for command in following)])


def _briefly(seen: RunOverview) -> list[str]:
    if seen.state == "damaged":
        return [seen.problem]
    return [f"space {seen.space}, data {seen.data}", f"the result is in {Path(seen.folder) / 'probe.md'}"]


def _layers(run: Run) -> None:
    """The chosen directions, layers in a row that have the same together."""
    from itertools import groupby

    from scansearch.cli.screen import print_table
    from scansearch.text import span

    layers = run.genotype.layers
    rows = []
    for names, group in groupby(range(len(layers)), key=layers.__getitem__):
        rows.append((span(list(group)), " ".join(names)))
    print_table(("layers", "directions"), rows, left=2)


HEADINGS = ("run", "kind", "state", "space", "data", "method", "seed", "test %", "validation %")


def list_runs(folder: Below = Path("runs"), as_json: AsJson = False) -> None:
    """List the runs below a folder: state, space, data and score."""
    from scansearch.cli.screen import print_lines, show_rows
    from scansearch.runs.overview import overview, runs_below

    rows = [overview(path) for path in runs_below(folder)]
    if not rows and not as_json:
        print_lines([f"no runs below {folder}"])
        return

    def cells(row: RunOverview) -> tuple[str, ...]:
        path = Path(row.folder)
        name = str(path.relative_to(folder)) if path != folder else row.folder
        return (
            name,
            row.kind,
            row.progress,
            row.space,
            row.data,
            row.method,
            "" if row.seed is None else str(row.seed),
            "" if row.score is None else f"{row.score:.2f}",
            "" if row.validation is None else f"{row.validation:.2f}",
        )

    show_rows(rows, HEADINGS, cells, as_json=as_json, left=6)
