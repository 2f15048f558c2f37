"""``scansearch doctor``: what works on this machine."""

from __future__ import annotations

import typer

from scansearch.cli.options import AsJson


def doctor(as_json: AsJson = False) -> None:
    """Tell devices, kernels, versions and extras in plain words, and test each kernel against the reference.

    The exit code is 1 where something that should work does not; an extra that is not installed is no fault.
    """
    from scansearch.bench.doctor import CheckUp, examine
    from scansearch.cli.screen import print_lines, show_rows

    rows = list(examine())

    def cells(row: CheckUp) -> tuple[str, ...]:
        return row.part, row.subject, row.state, row.words

    broken = [row for row in rows if row.state == "broken"]
    if show_rows(rows, ("", "", "", ""), cells, as_json=as_json, left=4):
        names = ", ".join(row.subject for row in broken)
        print_lines(["", f"broken: {names}" if broken else "everything that is installed works"])
    if broken:
        raise typer.Exit(1)
