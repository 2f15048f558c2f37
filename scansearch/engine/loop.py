"""What searching and training share: devices, steps, schedules, optimizer state, checkpoints, and stopping.

A :class:`Task` knows how to do one step; :func:`drive` runs it and yields events. Nothing here writes files:
whoever consumes the events does. A run is a pure function of its configuration: torch is reseeded before
every step from (seed, rank, step), so a checkpoint needs no generator state and can be taken between any
two steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from torch import Tensor

from scansearch.errors import RunStopped
from scansearch.seeding import Stream, seed_everything

Metrics = dict[str, float]


# --- events ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StepDone:
    """One optimizer step. ``step`` counts from 1 over the whole run."""

    step: int
    epoch: int
    metrics: Metrics


@dataclass(frozen=True)
class EpochDone:
    """One epoch; ``metrics`` holds the means over its steps and what the task measured at its end."""

    step: int
    epoch: int
    metrics: dict[str, Any]


@dataclass(frozen=True)
class CheckpointReady:
    """The complete state after ``step``: load it with ``drive(..., resume=(tensors, state))``."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


@dataclass(frozen=True)
class StopRequested:
    """The run was asked to stop; its checkpoint has been yielded just before."""

    step: int


Event = StepDone | EpochDone | CheckpointReady | StopRequested


# --- driving a task -------------------------------------------------------------------------------------


class Task(Protocol):
    """A job of ``epochs`` x ``steps_per_epoch`` steps whose whole state can be saved between two steps."""

    epochs: int
    steps_per_epoch: int

    def start_epoch(self, epoch: int, first_step: int) -> None:
        """Prepare the batches of ``epoch`` from its step ``first_step`` on."""

    def step(self, epoch: int, step: int) -> Metrics:
        """Do step number ``step`` (from 0 over the whole run); the metrics hold at least ``loss``."""

    def end_epoch(self, epoch: int) -> dict[str, Any]:
        """Measure what is measured once an epoch; a true ``finished`` ends the run."""

    def tensors(self) -> dict[str, Tensor]:
        """Weights, optimizer state and whatever else must be restored, by unique names."""

    def state(self) -> dict[str, Any]:
        """The rest of the state, as JSON values."""

    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Restore what :meth:`tensors` and :meth:`state` gave."""


@dataclass
class _Progress:
    """Where a run stands; ``sums`` adds up the step metrics of the current epoch."""

    step: int = 0
    steps_in_epoch: int = 0
    sums: Metrics = field(default_factory=dict)
    finished: bool = False


def drive(
    task: Task,
    *,
    seed: int,
    rank: int = 0,
    checkpoint_minutes: float = 5.0,
    stop: Callable[[], bool] = lambda: False,
    resume: tuple[Mapping[str, Tensor], Mapping[str, Any]] | None = None,
) -> Iterator[Event]:
    """Run ``task`` from its start, or from a checkpoint, to its end, yielding events.

    A checkpoint is yielded after every epoch, after every tenth of all steps, every ``checkpoint_minutes``,
    and when ``stop()`` turns true (then followed by :class:`StopRequested`, the last event).

    Raises:
        RunStopped: the loss is not finite. The step is not counted and no checkpoint is taken of it.
    """
    progress = _Progress()
    if resume is not None:
        tensors, state = resume
        progress = _Progress(**state["progress"])
        task.load(tensors, state["task"])

    def checkpoint() -> CheckpointReady:
        return CheckpointReady(
            progress.step, task.tensors(), {"progress": asdict(progress), "task": task.state()}
        )

    total = task.epochs * task.steps_per_epoch
    tenth = max(1, total // 10)
    saved = progress.step
    saved_at = time.monotonic()
    while progress.step < total and not progress.finished:
        epoch, first = divmod(progress.step, task.steps_per_epoch)
        task.start_epoch(epoch, first)
        for index in range(first, task.steps_per_epoch):
            seed_everything(Stream.STEP, seed, rank, progress.step)
            metrics = task.step(epoch, progress.step)
            if not math.isfinite(metrics["loss"]):
                kept = f"the checkpoint of step {saved} is kept" if saved else "there is no checkpoint yet"
                raise RunStopped(
                    f"the loss is {metrics['loss']} at step {progress.step + 1}; {kept}, and resuming repeats these "
                    "steps: a new run with a lower learning rate usually helps"
                )
            progress.step += 1
            progress.steps_in_epoch += 1
            for name, value in metrics.items():
                progress.sums[name] = progress.sums.get(name, 0.0) + value
            yield StepDone(progress.step, epoch, metrics)
            last = index + 1 == task.steps_per_epoch
            if last:
                means = {name: value / progress.steps_in_epoch for name, value in progress.sums.items()}
                measured = task.end_epoch(epoch)
                progress.finished = bool(measured.pop("finished", False))
                progress.sums, progress.steps_in_epoch = {}, 0
                yield EpochDone(progress.step, epoch, means | measured)
            due = time.monotonic() - saved_at > 60 * checkpoint_minutes
            stopping = stop()
            if last or due or stopping or progress.step % tenth == 0:
                yield checkpoint()
                saved, saved_at = progress.step, time.monotonic()
            if stopping and progress.step < total and not progress.finished:
                yield StopRequested(progress.step)
                return
