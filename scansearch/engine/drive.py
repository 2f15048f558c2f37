"""What searching and training share: devices, steps, schedules, optimizer state, checkpoints, and stopping.

A :class:`Task` knows how to do one step; :func:`drive` runs it and yields events. Nothing here writes files:
whoever consumes the events does. A run is a pure function of its configuration: torch is reseeded before
every step from (seed, rank, step), so a checkpoint needs no generator state and can be taken between any
two steps.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from scansearch.data import Split, evaluation_batches, seed_everything
from scansearch.errors import InputError, RunStopped

if TYPE_CHECKING:
    from accelerate import Accelerator

Metrics = dict[str, float]
_Item = TypeVar("_Item")


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
    saved_at = time.monotonic()
    while progress.step < total and not progress.finished:
        epoch, first = divmod(progress.step, task.steps_per_epoch)
        task.start_epoch(epoch, first)
        for index in range(first, task.steps_per_epoch):
            seed_everything(seed, rank, progress.step)
            metrics = task.step(epoch, progress.step)
            if not math.isfinite(metrics["loss"]):
                raise RunStopped(
                    f"the loss is {metrics['loss']} at step {progress.step + 1}; the last good checkpoint is kept "
                    "(a lower learning rate usually helps)"
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
                saved_at = time.monotonic()
            if stopping and progress.step < total and not progress.finished:
                yield StopRequested(progress.step)
                return


# --- devices --------------------------------------------------------------------------------------------


def make_accelerator(device: str, mixed_precision: str) -> Accelerator:
    """The processes and device of this run, through Hugging Face accelerate.

    Args:
        device: ``auto`` (CUDA where present, else CPU), ``cpu`` or ``cuda``.
        mixed_precision: ``no`` or ``bf16``.

    Raises:
        InputError: an unknown or absent device.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"unknown device {device!r} (allowed: auto, cpu, cuda)")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "device 'cuda' was asked for, but torch finds no CUDA device (allowed here: auto, cpu)"
        )
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)  # one process may run several jobs in sequence
    cpu = device == "cpu" or not torch.cuda.is_available()
    return Accelerator(cpu=cpu, mixed_precision=mixed_precision)


def on_any_process(accelerator: Accelerator, flag: bool) -> bool:
    """Whether ``flag`` is true on at least one process; every process must ask."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device), reduction="sum") > 0)


def from_all_processes(accelerator: Accelerator, items: Sequence[_Item]) -> list[_Item]:
    """``items`` of every process, one after the other; every process must ask. Cheap where none has any."""
    if not on_any_process(accelerator, bool(items)) or accelerator.num_processes == 1:
        return list(items)
    from accelerate.utils import gather_object

    return list(gather_object(list(items)))


def check_equal_on_all_processes(accelerator: Accelerator, tensors: Sequence[Tensor], what: str) -> None:
    """Compare SHA-256 hashes of ``tensors`` over the processes.

    Raises:
        RunStopped: they differ; naming ``what``.
    """
    if accelerator.num_processes == 1:
        return
    digest = hashlib.sha256(
        b"".join(t.detach().cpu().contiguous().numpy().tobytes() for t in tensors)
    ).digest()
    words = torch.frombuffer(bytearray(digest), dtype=torch.int64).to(accelerator.device)
    hashes = accelerator.gather(words[None])
    if not bool((hashes == words).all()):
        raise RunStopped(f"{what} differ between the processes; the last checkpoint is kept")


# --- schedules and parameters ---------------------------------------------------------------------------


def cosine(step: int, total: int, warmup: int, peak: float, final: float = 0.0) -> float:
    """Learning rate of ``step`` (from 0): linear warm-up over ``warmup`` steps, then half a cosine to ``final``."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


# --- state as tensors -----------------------------------------------------------------------------------


def pack_module(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    """The state dict of ``module`` under ``prefix``."""
    return {f"{prefix}.{name}": tensor.detach().clone() for name, tensor in module.state_dict().items()}


def unpack_module(module: nn.Module, tensors: Mapping[str, Tensor], prefix: str) -> None:
    start = prefix + "."
    module.load_state_dict(
        {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}
    )


def pack_optimizer(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """Optimizer state as named tensors: ``prefix.<parameter index>.<key>``. Every entry must be a tensor or number."""
    packed = {}
    for index, entries in optimizer.state_dict()["state"].items():
        for key, value in entries.items():
            tensor = (
                value.detach().clone()
                if isinstance(value, Tensor)
                else torch.tensor(value, dtype=torch.float64)
            )
            packed[f"{prefix}.{index}.{key}"] = tensor
    return packed


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], prefix: str) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix + "."):
            index, key = name.removeprefix(prefix + ".").split(".", 1)
            state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


# --- scoring --------------------------------------------------------------------------------------------


@torch.no_grad()
def score(
    predict: Callable[[Tensor], Tensor],
    split: Split,
    *,
    batch_size: int,
    accelerator: Accelerator,
    workers: int = 0,
) -> Metrics:
    """Mean cross-entropy (``loss``, nats) and top-1 accuracy (``accuracy``, percent) over every image of ``split``."""
    totals = torch.zeros(3, dtype=torch.float64, device=accelerator.device)
    batches = evaluation_batches(
        split, batch_size, rank=accelerator.process_index, ranks=accelerator.num_processes, workers=workers
    )
    for images, labels in batches:
        images, labels = images.to(accelerator.device), labels.to(accelerator.device)
        with accelerator.autocast():
            logits = predict(images)
        logits = logits.float()
        losses = nn.functional.cross_entropy(logits, labels, reduction="sum")
        correct = (logits.argmax(1) == labels).sum()
        totals += torch.stack(
            [losses.double(), correct.double(), torch.tensor(len(labels)).to(losses.device).double()]
        )
    totals = accelerator.reduce(totals, reduction="sum")
    loss, correct, count = totals.tolist()
    if count == 0:
        raise RunStopped("no image of a split can be read")
    return {"loss": loss / count, "accuracy": 100 * correct / count}


def jsonable(values: Sequence[Tensor]) -> list[list[float]]:
    """Per-layer tensors as nested lists of floats, for metrics and preferences."""
    return [value.detach().cpu().tolist() for value in values]
