"""A pytest plugin that prints each failure at once, so that a run that is cut off has told what it found."""

from typing import Any


def pytest_runtest_logreport(report: Any) -> None:
    """Called for each phase of each test."""
    if report.failed:
        print(f"\nFAILED {report.nodeid}\n{report.longreprtext[-1500:]}", flush=True)
