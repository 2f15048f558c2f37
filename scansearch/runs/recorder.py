"""Driving a task into its run folder: what a search and a training do alike around :func:`scansearch.engine.drive`.

The main process writes the events to the folder; ``observe`` hears them too (the command line draws its
progress from them).
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scansearch import engine
from scansearch.errors import RunStopped
from scansearch.runs.folder import Run
from scansearch.runs.signals import Interrupted, stop_signals
from scansearch.runs.trackers import RunTracker
from scansearch.runs.verification import Verified

if TYPE_CHECKING:
    from accelerate import Accelerator

    from scansearch.data import ImageData


@dataclass(frozen=True)
class Started:
    """Announces a run before its first step.

    Attributes:
        heading: what is done, in words.
        step: where it starts from; 0 for a fresh run.
        parameters: of the model that learns.
        needs: what a step will cost, in words; may be empty.
        images: number of training, validation and test images.
        treatment: the classes, and what becomes of an image, in words.
        notes: how the data were read, one line each.
        origin: what the run starts from, where that needs a word: merged candidates, given weights; one line each.
    """

    run: Run
    heading: str
    epochs: int
    total_steps: int
    step: int
    parameters: int
    needs: str
    images: tuple[int, int, int]
    treatment: str = ""
    notes: tuple[str, ...] = ()
    origin: tuple[str, ...] = ()


@dataclass(frozen=True)
class Warned:
    """Something that the user should know and that does not stop the run."""

    text: str


Notice = Started | Warned | Verified | engine.Event
Observer = Callable[[Notice], None]


def ignore(notice: Notice) -> None:
    """The observer that does nothing."""


@dataclass(frozen=True)
class Recorder:
    """Writes what a task does into its run folder.

    ``command`` is the subcommand that resumes it; ``track`` names a tracker that shows the figures too; the last
    fields are for :class:`Started`.
    """

    run: Run
    task: engine.Task
    data: ImageData
    accelerator: Accelerator
    seed: int
    checkpoint_minutes: float
    command: str
    heading: str
    parameters: int
    observe: Observer
    needs: str = ""
    origin: tuple[str, ...] = ()
    track: str | None = None

    def drive(self, on_epoch: Callable[[engine.EpochDone], None] = lambda event: None) -> None:
        """Drive the task to its end, from the folder's newest checkpoint where there is one.

        ``on_epoch`` is called after every epoch, on every process, before the checkpoint of its end is written.

        Raises:
            Interrupted: SIGINT or SIGTERM; a checkpoint was written. RunStopped: as :func:`engine.drive`.
        """
        checkpoint = self.run.load_checkpoint()
        if checkpoint is not None:
            for warning in checkpoint.warnings:
                self.observe(Warned(warning))
        step = checkpoint.step if checkpoint else 0
        for number in self.run.damaged_metrics():
            self.observe(Warned(f"line {number} of metrics.jsonl is damaged and is passed over"))
        task, data = self.task, self.data
        if self.accelerator.is_main_process:
            self.run.forget_after(step)
        self.accelerator.wait_for_everyone()
        data.broken.names.update({r["image"]: r["reason"] for r in self.run.metrics("broken")})
        images = (data.train.count, data.validation.count, data.test.count)
        total = task.epochs * task.steps_per_epoch
        self.observe(
            Started(
                self.run,
                self.heading,
                task.epochs,
                total,
                step,
                self.parameters,
                self.needs,
                images,
                f"{len(data.classes)} classes, {data.treatment.describe()}",
                data.notes,
                self.origin,
            )
        )
        with stop_signals() as received, self._tracker(step) as tracker:
            events = engine.drive(
                task,
                seed=self.seed,
                rank=self.accelerator.process_index,
                checkpoint_minutes=self.checkpoint_minutes,
                stop=lambda: engine.on_any_process(self.accelerator, bool(received)),
                resume=(checkpoint.tensors, checkpoint.state) if checkpoint else None,
            )
            try:
                for event in events:
                    step = event.step
                    if isinstance(event, engine.EpochDone):
                        on_epoch(event)
                    if self.accelerator.is_main_process:
                        self._write(event, tracker)
                    # Not at checkpoints: each process has its own clock, and may take one where others do not.
                    if isinstance(event, engine.StepDone | engine.EpochDone):
                        self.log_broken(step)
                    self.observe(event)
                    if isinstance(event, engine.StopRequested):
                        raise Interrupted(
                            received[0] if received else signal.SIGTERM, self.run.folder, self.command
                        )
            except RunStopped:
                # The other processes may not have stopped, so each that has writes what it knows.
                self._write_broken(step, dict(self.data.broken.take_fresh()))
                raise

    def log_broken(self, step: int) -> None:
        """Write down and show the images that any process skipped since the last call; every process must ask.

        Raises:
            RunStopped: all processes together have met more broken images than are allowed.
        """
        fresh = engine.from_all_processes(self.accelerator, self.data.broken.take_fresh())
        if self.accelerator.is_main_process:
            self._write_broken(step, dict(fresh))
        self.data.broken.learn(dict(fresh))

    def _write_broken(self, step: int, names: dict[str, str]) -> None:
        for name, reason in names.items():
            self.run.log({"kind": "broken", "step": step, "image": name, "reason": reason})
            self.observe(Warned(f"skipped image {name!r}, which cannot be read: {reason}"))

    @contextmanager
    def _tracker(self, step: int) -> Iterator[RunTracker | None]:
        """The tracker, where one is wanted, on the main process."""
        if self.track is None or not self.accelerator.is_main_process:
            yield None
            return
        tracker = RunTracker(self.track, self.run, step)
        try:
            yield tracker
        finally:
            tracker.close()

    def _write(self, event: engine.Event, tracker: RunTracker | None) -> None:
        if isinstance(event, engine.StepDone | engine.EpochDone):
            kind = "step" if isinstance(event, engine.StepDone) else "epoch"
            record = {"kind": kind, "step": event.step, "epoch": event.epoch + 1, **event.metrics}
            self.run.log(record)
            if tracker is not None:
                tracker.log(record)
        elif isinstance(event, engine.CheckpointReady):
            self.run.save_checkpoint(event.step, event.tensors, event.state)
