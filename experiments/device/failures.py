"""A pytest plugin that writes each failure down at once, so that a run that is cut off has told what it found."""

import os
from pathlib import Path
from typing import Any


def pytest_runtest_logreport(report: Any) -> None:
    """Called for each phase of each test; appends to `failures.txt` among the results."""
    if report.failed:
        with (Path(os.environ.get("DEVICE_OUT", ".")) / "failures.txt").open("a") as file:
            file.write(f"FAILED {report.nodeid}\n{report.longreprtext[-1500:]}\n")
