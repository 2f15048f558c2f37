"""How a run looks while it is at work: lines and a bar, the same from the command line and from Python."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from scansearch import engine
from scansearch.records.heads import FIGURES
from scansearch.runs.rank import is_main_process
from scansearch.runs.recorder import Notice, Observer, Started, Warned, ignore
from scansearch.runs.screens import NotebookScreen, Screen, TerminalScreen, in_notebook
from scansearch.runs.verification import Verified
from scansearch.text import human

_STEPS_TO_ESTIMATE = 5


class RunView:
    """Shows the events of a run; use as a context manager and as the run's observer.

    Args:
        quiet: only warnings are shown.
        screen: where; None for standard error.
    """

    def __init__(self, *, quiet: bool = False, screen: Screen | None = None) -> None:
        # Under torchrun only the first process talks.
        self.mute = not is_main_process()
        self.quiet = quiet or self.mute
        self.screen: Screen = screen or TerminalScreen()
        self.live = self.screen.live and not self.quiet
        self.total = self.first = 0
        self.epochs = 0
        self.started_at = self.first_step_at = time.monotonic()

    def __enter__(self) -> RunView:
        if self.live:
            self.screen.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.screen.close()

    def __call__(self, event: Notice) -> None:
        if isinstance(event, Warned):
            self._line(f"warning: {event.text}", always=True)
        elif isinstance(event, Verified):
            self._line(event.describe())
        elif isinstance(event, Started):
            self._start(event)
        elif isinstance(event, engine.StepDone):
            self._estimate(event)
            figures = f"loss {event.metrics['loss']:.3f}"
            if "accuracy" in event.metrics:
                figures += f"  accuracy {event.metrics['accuracy']:5.1f} %"
            self._bar(event.epoch, event.step, figures)
        elif isinstance(event, engine.EpochDone):
            self._epoch(event)

    def _start(self, event: Started) -> None:
        train, validation, test = event.images
        self.total, self.first, self.epochs = event.total_steps, event.step, event.epochs
        self.started_at = time.monotonic()
        self._line(f"{event.heading} ({train} training, {validation} validation, {test} test images)")
        for note in event.notes:
            self._line(f"data: {note}")
        for note in event.origin:
            self._line(note)
        if event.treatment:
            self._line(event.treatment)
        needs = f", {event.needs}" if event.needs else ""
        self._line(f"{human(event.parameters)} parameters{needs}")
        self._line(f"run folder: {event.run.folder}")
        if event.step:
            self._line(f"resumed after step {event.step} of {event.total_steps}")
        self._bar(0, event.step, "")

    def _bar(self, epoch: int, step: int, figures: str) -> None:
        if self.live:
            self.screen.bar(f"epoch {epoch + 1}/{self.epochs}", step, self.total, figures)

    def _estimate(self, event: engine.StepDone) -> None:
        """After a few steps, how long the run will take; the first step is left out, for it compiles kernels."""
        done = event.step - self.first
        if done == 1:
            self.first_step_at = time.monotonic()
        elif done == 1 + _STEPS_TO_ESTIMATE:
            each = (time.monotonic() - self.first_step_at) / _STEPS_TO_ESTIMATE
            self._line(
                f"about {_clock(each * (self.total - event.step))} for {self.total - event.step} steps"
            )

    def _epoch(self, event: engine.EpochDone) -> None:
        metrics = event.metrics
        elapsed = time.monotonic() - self.started_at
        left = elapsed / max(1, event.step - self.first) * (self.total - event.step)
        parts = [f"epoch {event.epoch + 1}/{self.epochs}", f"loss {metrics['loss']:.3f}"]
        if "accuracy" in metrics:
            parts.append(f"accuracy {metrics['accuracy']:5.1f} %")
        for name, title in FIGURES.items():
            if f"validation_{name}" in metrics:
                word = "validation" if name == "accuracy" else title
                parts.append(f"{word} {metrics[f'validation_{name}']:5.1f} %")
        self._line("  ".join([*parts, f"left {_clock(left)}"]))

    def _line(self, text: str, *, always: bool = False) -> None:
        if not self.mute and (always or not self.quiet):
            self.screen.line(text)


@contextmanager
def shown(progress: bool, observe: Observer = ignore) -> Iterator[Observer]:
    """``observe``, and where ``progress`` a view beside it: in a notebook or a terminal; a pipe gets nothing."""
    screen: Screen | None = None
    if progress and in_notebook():
        screen = NotebookScreen()
    elif progress and sys.stderr is not None and sys.stderr.isatty():
        screen = TerminalScreen()
    if screen is None:
        yield observe
        return
    with RunView(screen=screen) as view:

        def both(event: Notice) -> None:
            view(event)
            observe(event)

        yield both


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"
