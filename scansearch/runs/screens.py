"""Where the progress of a run is shown: a terminal, plain lines in a pipe, or the output of a notebook's cell."""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from scansearch.display.html import escape
from scansearch.text import printable

_KEPT = 400  # lines of a notebook's cell
_SECONDS = 0.2  # between two pictures of it


class Screen(Protocol):
    """Lines, and below them a bar.

    Attributes:
        live: whether there is a bar.
    """

    live: bool

    def line(self, text: str) -> None:
        """Add a line."""

    def open(self) -> None:
        """Before the first line."""

    def close(self) -> None:
        """After the last line."""

    def bar(self, description: str, step: int, total: int, figures: str) -> None:
        """Where the run is: step of total, and its latest figures."""


class TerminalScreen:
    """Standard error; without a terminal, lines alone. Lines break between words at the terminal's width."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.live = self.console.is_terminal
        self.progress = Progress(*_columns(self.console.width), console=self.console, disable=not self.live)

    def open(self) -> None:
        self.progress.start()

    def close(self) -> None:
        self.progress.stop()

    def line(self, text: str) -> None:
        self.console.print(printable(text), highlight=False, markup=False, soft_wrap=not self.live)

    def bar(self, description: str, step: int, total: int, figures: str) -> None:
        if not self.progress.task_ids:
            self.progress.add_task(description, total=total, completed=step, figures=figures)
        self.progress.update(
            self.progress.task_ids[0], completed=step, description=description, figures=figures
        )


def _columns(width: int) -> list[ProgressColumn]:
    """What fits into one line of ``width`` signs."""
    columns: list[ProgressColumn] = [TextColumn("{task.description}")]
    if width >= 70:
        columns.append(BarColumn(bar_width=min(40, width - 66)))
    columns.append(MofNCompleteColumn())
    if width >= 60:
        columns.append(TextColumn("{task.fields[figures]}"))
    return [*columns, TimeRemainingColumn()]


class NotebookScreen:
    """The output of a notebook's cell, drawn anew at most five times a second."""

    live = True

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._bar = ""
        self._handle: Any = None
        self._drawn = 0.0

    def open(self) -> None:
        """Nothing is shown before the first line."""

    def close(self) -> None:
        self._bar = ""
        self._draw()

    def line(self, text: str) -> None:
        self._lines = [*self._lines, text][-_KEPT:]
        self._draw()

    def bar(self, description: str, step: int, total: int, figures: str) -> None:
        text = escape(f"{description}  {step}/{total}  {figures}")
        self._bar = f'<progress value="{step}" max="{total}"></progress> {text}'
        if time.monotonic() - self._drawn >= _SECONDS:
            self._draw()

    def html(self) -> str:
        """The cell's output."""
        lines = "\n".join(map(escape, self._lines))
        return f'<pre style="white-space:pre-wrap;margin:0">{lines}</pre><div>{self._bar}</div>'

    def _draw(self) -> None:
        from IPython.display import HTML, display

        self._drawn = time.monotonic()
        if self._handle is None:
            self._handle = display(HTML(self.html()), display_id=True)
        else:
            self._handle.update(HTML(self.html()))


def in_notebook() -> bool:
    """Whether a kernel of Jupyter runs this program; the prompt of IPython in a terminal is none."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")
