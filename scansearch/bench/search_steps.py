"""What one training step of the supernet costs under each relaxation, timed in turns in one run."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Generator

from scansearch.errors import InputError
from scansearch.records.space import load_space
from scansearch.searching.assembly import assemble_search
from scansearch.searching.config import search_config
from scansearch.searching.strategies import RELAXATIONS
from scansearch.text import choices

BASELINE = "softmax"


@dataclass(frozen=True)
class StepRow:
    """One relaxation: branches computed per layer, milliseconds a step, and the ratio to softmax."""

    relaxation: str
    active: int
    ms: float
    ratio: float


def bench_search(
    space: str = "vim8",
    *,
    data: str = "digits",
    k: int = 4,
    relaxations: Sequence[str] = tuple(RELAXATIONS),
    batch_size: int = 32,
    steps: int = 5,
    rounds: int = 5,
    device: str = "auto",
    progress: Callable[[str], None] = lambda line: None,
) -> list[StepRow]:
    """Milliseconds of a step of update ``joint`` (forward, backward, both optimizers), best round of each relaxation.

    Args:
        relaxations: names; ``softmax`` is always timed, because it computes every branch and all ratios are to it.
        steps: timed at a time; ``rounds`` times in turns with the other relaxations.

    Returns:
        One row per relaxation, softmax first.

    Raises:
        InputError: an unknown relaxation, space or data set, or a ``k`` above the number of candidates.
    """
    for name in relaxations:
        if name not in RELAXATIONS:
            raise InputError(f"unknown relaxation {name!r} {choices(name, RELAXATIONS)}")
    tasks = {
        name: _Stepper(name, space, data, k, batch_size, device)
        for name in dict.fromkeys((BASELINE, *relaxations))
    }
    spent: dict[str, list[float]] = {name: [] for name in tasks}
    for stepper in tasks.values():
        stepper.take(2)  # kernels are compiled or loaded, and pages are touched
    for turn in range(rounds):
        for name, stepper in tasks.items():
            started = time.perf_counter()
            stepper.take(steps)
            spent[name].append(1e3 * (time.perf_counter() - started) / steps)
        progress(f"round {turn + 1} of {rounds}")
    base = min(spent[BASELINE])
    return [
        StepRow(
            relaxation=name,
            active=stepper.active,
            ms=round(min(spent[name]), 2),
            ratio=round(min(spent[name]) / base, 3),
        )
        for name, stepper in tasks.items()
    ]


class _Stepper:
    """A search that takes as many steps as one likes."""

    def __init__(self, relaxation: str, space: str, data: str, k: int, batch_size: int, device: str) -> None:
        # A relaxation without alphas has nothing for `magnitude` to read; nothing is selected here.
        config = search_config(
            space=space,
            data=data,
            k=k,
            relaxation=relaxation,
            selection="perturbation",
            batch_size=batch_size,
            device=device,
            alphas={"warmup_epochs": 0},
        )
        self.task = assemble_search(config, load_space(space))
        self.active = self._active()
        self.steps = self._steps()

    def _active(self) -> int:
        task = self.task
        gates = task.relaxation.gates(
            task.supernet.alphas, active=task.config.k, temperature=1.0, generator=Generator().manual_seed(0)
        )
        return max(len(layer.active) for layer in gates)

    def _steps(self) -> Any:
        for epoch in itertools.count():
            self.task.start_epoch(epoch, 0)
            for step in range(self.task.steps_per_epoch):
                yield epoch, step

    def take(self, steps: int) -> None:
        for _ in range(steps):
            self.task.step(*next(self.steps))


HEADINGS = ("relaxation", "branches", "ms a step", "/ softmax")


def cells(row: StepRow) -> tuple[str, ...]:
    """The row as text, under :data:`HEADINGS`."""
    return row.relaxation, str(row.active), f"{row.ms:.1f}", f"{row.ratio:.2f}"
