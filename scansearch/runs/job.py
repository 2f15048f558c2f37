"""One task and the run folder that it fills: what a search and a training do alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch

from scansearch import engine
from scansearch.costing.duration import step_seconds
from scansearch.costing.memory import check_memory, forecast
from scansearch.data import training_batches
from scansearch.data.instances.targets import ObjectBatch
from scansearch.errors import InputError
from scansearch.files.atomic import write_figure
from scansearch.files.strict import dump_yaml
from scansearch.runs.environment import environment
from scansearch.runs.fingerprint import (
    NAME,
    Fingerprint,
    compare_fingerprints,
    load_fingerprint,
    take_fingerprint,
)
from scansearch.runs.folder import Run
from scansearch.runs.recorder import Observer, Recorder, Warned
from scansearch.runs.report import write_report
from scansearch.runs.trackers import check_tracker
from scansearch.text import duration, printable

_SAMPLES = 16

if TYPE_CHECKING:
    import numpy as np
    from accelerate import Accelerator
    from torch import Tensor, nn

    from scansearch.data import ImageData
    from scansearch.data.instances.targets import ImageObjects
    from scansearch.plots.objects import ShownObjects
    from scansearch.searching.config import SearchConfig
    from scansearch.tasks.protocol import VisionTask
    from scansearch.training.config import TrainConfig


def shown_images(images: Tensor, data: ImageData) -> list[np.ndarray]:
    """``images`` [n, channels, height, width] of ``data`` as pictures [height, width, channels] in 0..1."""
    treatment = data.treatment
    mean, std = (
        torch.tensor(values or (default,))[:, None, None]
        for values, default in ((treatment.mean, 0.0), (treatment.std, 1.0))
    )
    return list((images * std + mean).clamp(0, 1).permute(0, 2, 3, 1).numpy())


def shown_objects(image: ImageObjects) -> ShownObjects:
    """The true objects of an image, as a picture shows them."""
    from scansearch.plots.objects import ShownObjects

    return ShownObjects(image.boxes.numpy(), image.labels.tolist(), image.masks.numpy())


_SHOWN = 0.5  # the score from which an object that was found is shown


def object_rows(
    predict: Callable[[Tensor], Sequence[Mapping[str, Tensor]]], images: Tensor, truth: Sequence[ImageObjects]
) -> dict[str, list[ShownObjects]]:
    """Of images [n, channels, height, width] the true objects, and those that ``predict`` finds with some certainty."""
    from scansearch.plots.objects import ShownObjects
    from scansearch.tasks.box_scores import pasted_masks

    found = []
    with torch.no_grad():
        detections = predict(images)
    for one in detections:
        sure = one["scores"] >= _SHOWN
        kept = {name: value[sure].float().cpu() for name, value in one.items()}
        masks = pasted_masks(kept["masks"], kept["boxes"], tuple(images.shape[2:]))
        found.append(ShownObjects(kept["boxes"].numpy(), kept["labels"].int().tolist(), masks.numpy()))
    return {"truth": [shown_objects(one) for one in truth], "prediction": found}


class RunTask(engine.Task, Protocol):
    """A task that knows its configuration, what is learned, its data and its device."""

    config: Any
    kind: VisionTask
    data: ImageData
    accelerator: Accelerator


class RunJob:
    """A task, what it will cost, and the folder that it writes to.

    Attributes:
        command: the subcommand that resumes it.
        least_seconds: of all steps, from the first on; None where it is not known.
        writes: whether this process writes files; the others only compute.
        run: its folder, once :meth:`create` or :meth:`reopen` gave it one.
    """

    command: ClassVar[str]
    run: Run

    def __init__(self, task: RunTask, network: nn.Module, observe: Observer, *, whole: bool = True) -> None:
        """``network`` is what learns; ``whole``: every step computes all of it.

        Raises:
            InputError: a step does not fit in memory, or the tracker's package is missing.
        """
        config: SearchConfig | TrainConfig = task.config
        check_tracker(config.track)
        self.data, self.accelerator, self.observe = task.data, task.accelerator, observe
        self.writes = self.accelerator.is_main_process
        self._task = task
        at_once = config.batch_size // (self.accelerator.num_processes * config.accumulate)
        image = (self.data.channels, *self.data.image_size)
        with self.accelerator.autocast():
            trial: Any = {"device": self.accelerator.device, "forward": task.kind.trial}
            self.forecast = forecast(network, image, at_once, **trial)
            check_memory(self.forecast, at_once)
            seconds = step_seconds(network, image, at_once, **trial) if whole else None
        steps = config.accumulate * task.epochs * task.steps_per_epoch
        self.least_seconds = None if seconds is None else seconds * steps

    def records(self) -> dict[str, str]:
        """What the run starts from beside its configuration: file name -> canonical text."""
        raise NotImplementedError

    def create(self, folder: Path) -> None:
        """Make the run folder.

        Raises:
            InputError: the folder is in use or cannot be written.
        """
        if self.writes:
            settings = dump_yaml(self._settings())
            records = self.records() | {NAME: self._fingerprint().to_json()}
            Run.create(folder, settings, self._surroundings(), records)
            self._draw_samples(folder)
        self.accelerator.wait_for_everyone()
        self.run = Run(folder)

    def _draw_samples(self, folder: Path) -> None:
        """The first training images, as the model will see them: what augmentation does is seen at once."""
        from scansearch.plots.masks import masks_figure
        from scansearch.plots.objects import objects_figure
        from scansearch.plots.training import samples_figure

        split, seed = self.data.train, self._task.config.seed
        batch, labels = next(training_batches(split, min(_SAMPLES, split.count), seed=seed, epoch=0))
        images = shown_images(batch, self.data)
        if isinstance(labels, ObjectBatch):
            figure = objects_figure(
                images, {"objects": [shown_objects(one) for one in labels]}, self.data.classes
            )
        elif labels.ndim > 1:
            figure = masks_figure(images, {"mask": labels.numpy()}, self.data.classes)
        else:
            figure = samples_figure(images, [printable(self.data.classes[int(label)]) for label in labels])
        write_figure(folder / "plots" / "samples.png", figure)

    def reopen(self, run: Run) -> None:
        """Go on in the folder of ``run``.

        Raises:
            InputError: what it started from has changed.
        """
        self.run = run
        before = load_fingerprint(run.folder)
        if before is not None:
            before = before.model_copy(update={"config": self._completed(before.config)})
            for warning in compare_fingerprints(run.folder, before, self._fingerprint()):
                self.observe(Warned(warning))

    def _settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = self._task.config.model_dump(mode="json", by_alias=True)
        return settings

    def _completed(self, settings: dict[str, Any]) -> dict[str, Any]:
        """``settings`` as an earlier version kept them, with the defaults of fields that it did not have."""
        kind = type(self._task.config)
        try:
            completed: dict[str, Any] = kind.model_validate(settings).model_dump(mode="json", by_alias=True)
        except ValueError:  # the comparison says what differs
            return settings
        return completed

    def _surroundings(self) -> dict[str, Any]:
        return environment(str(self.accelerator.device), self._task.config.seed)

    def _fingerprint(self) -> Fingerprint:
        return take_fingerprint(self._settings(), self.records(), self.data, self._surroundings())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes' runs out of the folder inside the block; the main process holds the lock.

        Raises:
            InputError: another run is at work in the folder.
        """
        with self.run.locked() if self.writes else nullcontext():
            yield

    def recorder(self, heading: str, needs: Sequence[str], *, origin: tuple[str, ...] = ()) -> Recorder:
        """What drives the task into the folder; ``heading``, ``needs`` and ``origin`` are shown at the start."""
        config = self._task.config
        return Recorder(
            run=self.run,
            task=self._task,
            data=self.data,
            accelerator=self.accelerator,
            seed=config.seed,
            checkpoint_minutes=config.checkpoint_minutes,
            command=self.command,
            heading=heading,
            parameters=self.forecast.parameters,
            needs=", ".join([*needs, *self._time()]),
            observe=self.observe,
            origin=origin,
            track=config.track,
        )

    def draw(self, name: str, make: Callable[[], Any]) -> None:
        """Draw ``plots/NAME``; where there is nothing to draw, say so."""
        try:
            write_figure(self.run.folder / "plots" / name, make())
        except InputError as error:
            self.observe(Warned(f"plots/{name} is not drawn: {error}"))

    def report(self) -> None:
        """Write ``report.html``; where its files cannot be read, say so."""
        try:
            write_report(self.run)
        except InputError as error:
            self.observe(Warned(f"report.html is not written: {error}"))

    def _time(self) -> list[str]:
        return (
            []
            if self.least_seconds is None
            else [f"at least about {duration(self.least_seconds)} for all steps"]
        )

    def baseline(self) -> tuple[str, float] | None:
        """Name and accuracy (percent) of a simple classifier on these data, where there is one."""
        measure: Callable[[], tuple[str, float]] | None = self.data.baseline
        return measure() if measure is not None else None
