"""SIGINT and SIGTERM while a run is at work."""

from __future__ import annotations

import shlex
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scansearch.errors import RunStopped


class Interrupted(RunStopped):
    """SIGINT or SIGTERM: everything is saved. ``signal`` is its number, ``command`` what continues the run.

    ``again``: what continues it where that is not ``--resume``.
    """

    def __init__(self, number: int, folder: Path, command: str, again: str = "") -> None:
        again = again or f"scansearch {command} --resume {shlex.quote(str(folder))}"
        super().__init__(f"interrupted; saved. Continue with: {again}")
        self.signal = number


@contextmanager
def interruptible(folder: Path, command: str, again: str = "") -> Iterator[None]:
    """SIGINT and SIGTERM raise :class:`Interrupted` where they arrive.

    For what comes after training, which a resumed run does again from the last checkpoint, and for jobs that keep each
    finished part at once; ``again`` is what continues those.
    """

    def stop(number: int, frame: object) -> None:
        raise Interrupted(number, folder, command, again)

    with _handled(stop):
        yield


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in the list that it yields; a second SIGINT interrupts at once."""
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    with _handled(note):
        yield received


@contextmanager
def _handled(handler: Callable[[int, object], None]) -> Iterator[None]:
    """``handler`` for SIGINT and SIGTERM; nothing outside the main thread, which alone may set handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
