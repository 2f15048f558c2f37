"""What the commands show alike: the console, lines, tables and their rows as JSON, and who may talk."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from scansearch.text import printable

if TYPE_CHECKING:
    from scansearch.records.genotype import Genotype


def wide_console() -> Console:
    """Standard output; in a pipe, wide enough that tables keep one line per row."""
    return Console(width=None if sys.stdout.isatty() else 160)


def print_lines(lines: Iterable[str]) -> None:
    """Lines of text as they are, never broken."""
    console = wide_console()
    for line in lines:
        console.print(printable(line), highlight=False, markup=False, soft_wrap=True)


def print_warning(line: str) -> None:
    """A line on standard error."""
    print(printable(line), file=sys.stderr)


def save_genotypes(
    genotypes: Sequence[Genotype], files: Sequence[Path] | None, *, quiet: bool = False
) -> None:
    """Write each genotype to its file and say so; None: say how to have them written. ``quiet``: say nothing."""
    from scansearch.files.outputs import make_folder

    if files is None:
        print_lines([] if quiet else ["not written: add --out FILE.yaml"])
        return
    for genotype, file in zip(genotypes, files, strict=True):
        make_folder(file.parent)
        genotype.save(file)
        print_lines([] if quiet else [f"written to {file}"])


def file_names(genotypes: Sequence[Genotype], files: Sequence[Path] | None) -> list[str | None]:
    """The file of each genotype as JSON has it; None where there is none."""
    return [None] * len(genotypes) if files is None else [str(file) for file in files]


def print_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1, title: str | None = None
) -> None:
    """A table of texts as they are; columns after the first ``left`` are set to the right.

    Headings that are all empty take no line.
    """
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, show_header=any(headings))
    for index, heading in enumerate(headings):
        table.add_column(Text(heading), justify="left" if index < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    wide_console().print(table, highlight=False)


def show_rows(
    rows: Sequence[Any],
    headings: Sequence[str],
    cells: Callable[[Any], Sequence[str]],
    *,
    as_json: bool,
    left: int = 1,
) -> bool:
    """Rows as a table or, with ``as_json``, as JSON; whether it was the table."""
    if as_json:
        print_json(rows)
    else:
        print_table(headings, map(cells, rows), left=left)
    return not as_json


def print_json(rows: Iterable[Any]) -> None:
    """Rows (dataclasses, or mappings of plain values) as one JSON list of objects."""
    print(json.dumps([dict(row) if isinstance(row, dict) else asdict(row) for row in rows], indent=1))
