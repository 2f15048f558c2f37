"""`scansearch bench`: what the kernels reach on this machine."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from scansearch.errors import InputError

app = typer.Typer(
    name="bench", help="Measure this machine.", no_args_is_help=True, pretty_exceptions_enable=False
)


@app.callback()
def bench() -> None:
    """Measure this machine."""


@app.command()
def kernels(
    size: Annotated[
        list[str] | None, typer.Option(help="A size by its name; may be repeated. All by default.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a list of objects instead of a table.")
    ] = False,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; the best counts.")] = 20,
    baselines: Annotated[bool, typer.Option(help="Time the slow ones to compare with, too.")] = True,
) -> None:
    """Time the CPU kernels against the floor of this machine, after checking that they are right."""
    from scansearch_kernels import bench as measure

    try:
        rows = measure.kernels(
            size, repeats=repeats, baselines=baselines, progress=lambda line: typer.echo(line, err=True)
        )
    except ValueError as error:
        raise InputError(str(error)) from error
    typer.echo(json.dumps(rows, indent=1) if as_json else measure.table(rows))
    if any(row["refused"] for row in rows):
        raise typer.Exit(1)
