"""How a run looks on the screen: a progress bar on a terminal, plain lines in a pipe, tables at the end."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from scansearch import engine
from scansearch.cli.screen import is_main_process
from scansearch.runs.recorder import Notice, Started, Warned
from scansearch.runs.verification import Verified
from scansearch.text import human, printable

_STEPS_TO_ESTIMATE = 5


class RunView:
    """Shows the events of a run; use as a context manager and as the run's observer."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet or not is_main_process()
        # Under torchrun only the first process talks.
        self.console = Console(stderr=True, quiet=not is_main_process())
        self.live = self.console.is_terminal and not self.quiet
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.live,
        )
        self.total = self.first = 0
        self.epochs = 0
        self.started_at = self.first_step_at = time.monotonic()

    def __enter__(self) -> RunView:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def __call__(self, event: Notice) -> None:
        if isinstance(event, Warned):
            self._line(f"warning: {event.text}", always=True)
        elif isinstance(event, Verified):
            self._line(event.describe())
        elif isinstance(event, Started):
            self._start(event)
        elif isinstance(event, engine.StepDone):
            self._estimate(event)
            if self.live:
                figures = f"loss {event.metrics['loss']:.3f}  accuracy {event.metrics['accuracy']:5.1f} %"
                self.progress.update(
                    self.progress.task_ids[0],
                    completed=event.step,
                    description=f"epoch {event.epoch + 1}/{self.epochs}",
                    figures=figures,
                )
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
        self.progress.add_task(f"epoch 1/{event.epochs}", total=self.total, completed=event.step, figures="")

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
        miou = f"mIoU {metrics['validation_miou']:5.1f} %  " if "validation_miou" in metrics else ""
        self._line(
            f"epoch {event.epoch + 1}/{self.epochs}  loss {metrics['loss']:.3f}  "
            f"accuracy {metrics['accuracy']:5.1f} %  validation {metrics['validation_accuracy']:5.1f} %  "
            f"{miou}left {_clock(left)}"
        )

    def _line(self, text: str, *, always: bool = False) -> None:
        if self.quiet and not always:
            return
        self.console.print(printable(text), highlight=False, markup=False, soft_wrap=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"
