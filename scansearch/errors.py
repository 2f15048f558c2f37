"""Errors whose message is meant for the user: one line naming what was wrong and what is allowed."""

from __future__ import annotations

__all__ = ["InputError", "MissingExtra", "RunStopped"]


class InputError(ValueError):
    """What the user gave cannot be used. The command line prints the message and exits with code 2."""


class RunStopped(RuntimeError):
    """A run had to stop early, with everything written so far kept (loss not finite, disk full, data gone)."""


class MissingExtra(ImportError, InputError):
    """An optional package is needed; the message names the extra that brings it, or without one the package."""

    def __init__(self, package: str, extra: str | None, purpose: str) -> None:
        command = package if extra is None else f"'scansearch[{extra}]'"
        super().__init__(f"{purpose} needs {package}: pip install {command}")
