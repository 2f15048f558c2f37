"""A training from start to end: the model, its run folder, the best weights, and the result.

config.yaml        what was asked            best.safetensors   weights with the best validation score
genotype.yaml      the directions            result.json        the scores of those weights
metrics.jsonl      one line per step         plots/             curves, confusion matrix, predicted masks
checkpoints/       the last two              summary.md         the result in words
report.html        the result as a page
weights.json       what the weights gave that it started from, where it did
model.yaml         of a baseline from timm, in place of genotype.yaml
predictions.json   of a detection, the objects found on the test images, in COCO's form
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from scansearch import engine
from scansearch._version import __version__
from scansearch.costing.decoders import network_flops
from scansearch.costing.flops import FULL
from scansearch.costing.memory import describe
from scansearch.data import evaluation_batches
from scansearch.data.balance import class_counts, unequal_classes
from scansearch.data.specifications import absolute
from scansearch.files.atomic import write_text
from scansearch.files.strict import load_json, load_yaml
from scansearch.records.genotype import Genotype
from scansearch.records.heads import PREDICTIONS, KeptHead
from scansearch.records.lookup import expect_training, find_model
from scansearch.records.timm_model import TimmModel, TrainedModel
from scansearch.records.weights import load_weights, save_weights
from scansearch.runs.folder import TIMM_MODEL, Run, default_folder
from scansearch.runs.job import RunJob, object_rows, shown_images
from scansearch.runs.progress import shown
from scansearch.runs.recorder import Observer, Warned, ignore
from scansearch.runs.signals import interruptible
from scansearch.runs.train_result import TrainResult
from scansearch.tasks.protocol import ScoreRecord
from scansearch.training.assembly import assemble_training
from scansearch.training.config import TrainConfig, train_config
from scansearch.training.initial import StartReport, weight_file
from scansearch.training.task import TrainTask

if TYPE_CHECKING:
    from scansearch.data import ImageData

INITIAL = "weights.json"
_PREDICTED = 8  # images in the picture of predictions


def train(
    model: Genotype | str | Path,
    *,
    data: str | ImageData | None = None,
    out: str | Path | None = None,
    recipe: str | Path | None = None,
    observe: Observer = ignore,
    progress: bool = True,
    **options: Any,
) -> TrainResult:
    """Train a model from scratch, or from given weights, in a new run folder.

    Args:
        model: a genotype, the file of one, a run folder that holds one, a registered model's name, or for a baseline
            ``timm:NAME``.
        data: a data specification, or images that the program holds (:func:`scansearch.data_from_arrays`); None for
            the data that the genotype was searched on.
        out: the run folder; by default a new one below ``runs/``.
        recipe: a YAML file with fields of TrainConfig, such as those in ``experiments/``.
        progress: whether a terminal or a notebook shows how far the training is.
        options: any field of :class:`~scansearch.training.config.TrainConfig`, for example ``epochs=5``, or
            ``weights="runs/TRAINED"`` to start from those weights.

    Raises:
        InputError: nothing has been written. RunStopped (Interrupted): what was written can be resumed.
    """
    genotype = model if isinstance(model, Genotype) else None
    name = f"genotype {genotype.hash}" if genotype is not None else str(model)
    images = None if data is None or isinstance(data, str) else data
    if isinstance(options.get("weights"), Path):
        options["weights"] = str(options["weights"])
    config = train_config(recipe, model=name, data=data if images is None else images.spec, **options)
    with shown(progress, observe) as both:
        return run_training(config, genotype, out=out, observe=both, images=images)


def run_training(
    config: TrainConfig,
    genotype: TrainedModel | None = None,
    *,
    out: str | Path | None = None,
    observe: Observer = ignore,
    images: ImageData | None = None,
) -> TrainResult:
    """:func:`train` with a whole configuration.

    ``genotype`` takes precedence over ``config.model``, and ``images`` over ``config.data``.
    """
    return TrainJob.start(config, genotype or find_model(config.model), out, observe, images).finish()


def resume_training(
    folder: str | Path, *, observe: Observer = ignore, data: ImageData | None = None
) -> TrainResult:
    """Continue an interrupted training from its last intact checkpoint, or score a finished one again.

    ``data``: the images, where the training was given such and not a specification.
    """
    expect_training(folder, command="train --resume")
    return TrainJob.resume(Run.open(folder), observe, data).finish()


class TrainJob(RunJob):
    """One training and the folder that it writes to.

    Attributes:
        initial: the report on the weights that it started from, as ``weights.json`` has it; None for fresh ones.
    """

    command = "train"

    def __init__(self, task: TrainTask, observe: Observer) -> None:
        super().__init__(task, task.model, observe)
        self.config, self.genotype, self.task = task.config, task.genotype, task
        self.initial = None if task.start is None else task.start.report

    @classmethod
    def start(
        cls,
        config: TrainConfig,
        genotype: TrainedModel,
        out: str | Path | None,
        observe: Observer,
        images: ImageData | None = None,
    ) -> TrainJob:
        """A new training in a new folder: ``out``, or one below ``runs/``."""
        if config.data is not None:
            config = config.model_copy(update={"data": absolute(config.data)})
        if config.weights is not None:
            config = config.model_copy(update={"weights": str(weight_file(config.weights).absolute())})
        job = cls(assemble_training(config, genotype, images), observe)
        space = genotype.space if isinstance(genotype, Genotype) else genotype.name
        name = space or Path(config.model).stem.replace(" ", "-")
        folder = Path(out) if out is not None else default_folder(name, "train", config.seed, job.config.data)
        job.create(folder)
        return job

    @classmethod
    def resume(cls, run: Run, observe: Observer, images: ImageData | None = None) -> TrainJob:
        """The training in the folder of ``run``."""
        config = load_yaml(run.folder / "config.yaml", TrainConfig)
        # A checkpoint holds all weights, so those of the start are needed without one only.
        read_weights = not run.checkpoints()
        job = cls(assemble_training(config, run.trained, images, read_weights=read_weights), observe)
        if config.weights is not None and not read_weights:
            job.initial = load_json(run.folder / INITIAL, StartReport)
            warning = job.initial.warning()
            if warning is not None:
                observe(Warned(warning))
        job.reopen(run)
        return job

    def records(self) -> dict[str, str]:
        initial = {} if self.initial is None else {INITIAL: self.initial.to_json()}
        file = TIMM_MODEL if isinstance(self.genotype, TimmModel) else "genotype.yaml"
        return {file: self.genotype.to_yaml()} | initial

    @property
    def best_file(self) -> Path:
        return self.run.folder / "best.safetensors"

    def finish(self) -> TrainResult:
        """Train, then score the best weights and write the result."""
        with self.locked(), interruptible(self.run.folder, "train"):
            return self._finish()

    def _finish(self) -> TrainResult:
        config, task = self.config, self.task
        start = "from scratch" if config.weights is None else f"from {config.weights}"
        recorder = self.recorder(
            f"training of {config.model} {start} on {config.data}",
            [describe(self.forecast)],
            origin=self._origin(),
        )
        started = time.monotonic()
        recorder.drive(on_epoch=self._keep_best)
        seconds = time.monotonic() - started
        self.accelerator.wait_for_everyone()
        best = load_weights(self.best_file)
        task.scored_model.load_state_dict(best.model.state_dict())
        scores = {split: self._evaluate(split) for split in ("validation", "test")}
        recorder.log_broken(task.epochs * task.steps_per_epoch)
        result = TrainResult(
            run=self.run,
            config=config,
            genotype=self.genotype,
            best_epoch=_best_epoch(best.notes),
            validation=scores["validation"],
            test=scores["test"],
            figures={
                "params": self.forecast.parameters,
                "flops": network_flops(task.model, *self.data.image_size, in_chans=self.data.channels),
                "seconds": seconds,
            },
            baseline=self.baseline(),
            initial=() if self.initial is None else self.initial.lines,
        )
        if self.writes:
            self._write(result)
        return result

    def _origin(self) -> tuple[str, ...]:
        """What the weights gave that it starts from, and whether the classes are unequal."""
        start, counts = self.task.start, class_counts(self.data.train, len(self.data.classes))
        lines = () if start is None else tuple(f"weights: {line}" for line in start.lines)
        unequal = None if counts is None else unequal_classes(counts, self.data.classes)
        return lines if unequal is None or self.config.balance != "none" else (*lines, f"data: {unequal}")

    def _keep_best(self, event: engine.EpochDone) -> None:
        if not (self.task.improved and self.writes):
            return
        arguments = self.task.arguments | {"img_size": list(self.data.image_size)}
        notes = {
            "data": self.config.data,
            "best_epoch": event.epoch + 1,
            **{name: value for name, value in event.metrics.items() if name in self._kept_figures},
            "seed": self.config.seed,
            "scansearch": __version__,
        }
        head = None
        if self.config.head is not None:
            kind: Any = self.config.task
            head = KeptHead(task=kind, classes=len(self.data.classes), options=self.config.head)
        save_weights(
            self.best_file, self.task.scored_model, self.genotype, arguments, notes, self.data.treatment, head
        )

    @property
    def _kept_figures(self) -> tuple[str, ...]:
        """Of an epoch, those that its weights keep."""
        return tuple(f"validation_{name}" for name in self.task.kind.figures)

    def _evaluate(self, split: Any) -> ScoreRecord:
        record: ScoreRecord = self.task.kind.evaluate(
            cast(Any, self.task.scored_model.eval()),
            self.data,
            self.accelerator,
            split=split,
            batch_size=max(1, 2 * self.config.batch_size // self.accelerator.num_processes),
            workers=self.config.workers,
            model=str(self.best_file),
            genotype=self.genotype.hash if isinstance(self.genotype, Genotype) else None,
        )
        return record

    def _write(self, result: TrainResult) -> None:
        from scansearch.plots.training import confusion_figure, curves_figure
        from scansearch.runs.train_result import training_markdown

        folder = self.run.folder
        record = {
            "schema": 1,
            "kind": "train",
            "genotype": self.genotype.hash if isinstance(self.genotype, Genotype) else None,
            "best_epoch": result.best_epoch,
            "convention": FULL,
            **result.figures,
            "validation": json.loads(result.validation.to_json()),
            "test": json.loads(result.test.to_json()),
        }
        write_text(folder / "result.json", json.dumps(record, indent=1) + "\n")
        if self.config.task == "detect":
            write_text(folder / PREDICTIONS, result.test.predictions_json())
        write_text(folder / "summary.md", training_markdown(result))
        # Drawn last: whatever a picture meets, the result is kept.
        epochs = self.run.metrics("epoch")
        self.draw("training.png", lambda: curves_figure(epochs, best_epoch=result.best_epoch))
        if self.config.task != "detect":
            self.draw("confusion.png", lambda: confusion_figure(result.test))
        if self.config.task != "classify":
            self.draw("predictions.png", self._predictions)
        self.report()

    def _predictions(self) -> Any:
        """A figure of the first validation images with the truth, and what the best weights make of them."""
        images, targets = next(evaluation_batches(self.data.validation, _PREDICTED))
        shown, classes = shown_images(images, self.data), self.data.classes
        model, images = self.task.scored_model.eval(), images.to(self.accelerator.device)
        if self.config.task == "detect":
            from scansearch.plots.objects import objects_figure

            return objects_figure(shown, object_rows(cast(Any, model), images, targets), classes)
        from scansearch.plots.masks import masks_figure
        from scansearch.tasks.segmentation import predicted_masks

        predicted = predicted_masks(cast(Any, model), images).numpy()
        return masks_figure(shown, {"truth": targets.numpy(), "prediction": predicted}, classes)


def _best_epoch(notes: Mapping[str, Any]) -> int:
    """Counted from 1; weight files of earlier versions call it ``epoch`` and count from 0."""
    return int(notes["best_epoch"]) if "best_epoch" in notes else int(notes["epoch"]) + 1
