"""What the commands show alike: the console, and who may talk."""

from __future__ import annotations

import os
import sys

from rich.console import Console


def wide_console() -> Console:
    """Standard output; in a pipe, wide enough that tables keep one line per row."""
    return Console(width=None if sys.stdout.isatty() else 160)


def is_main_process() -> bool:
    """Whether this is the only process, or the first of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"
