"""Running the command line inside a test."""

from __future__ import annotations

import pytest

from scansearch.cli import main


def call(capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of ``scansearch ARGUMENTS``."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    out, err = capsys.readouterr()
    return stop.value.code or 0, out, err
