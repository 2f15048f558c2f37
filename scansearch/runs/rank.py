"""Which of several processes this is."""

from __future__ import annotations

import os


def is_main_process() -> bool:
    """Whether this is the only process, or the first of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"
