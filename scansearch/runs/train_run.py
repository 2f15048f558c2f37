"""A training from start to end: the model, its run folder, the best weights, and the result.

config.yaml        what was asked            best.safetensors   weights with the best validation score
genotype.yaml      the directions            result.json        the scores of those weights
metrics.jsonl      one line per step         plots/             the curves, the confusion matrix
checkpoints/       the last two              summary.md         the result in words
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from scansearch import engine
from scansearch._version import __version__
from scansearch.costing.flops import FULL, full_flops
from scansearch.costing.memory import check_memory, describe, forecast
from scansearch.data import ImageData
from scansearch.evaluation.evaluate import Evaluation, evaluate_model
from scansearch.files.atomic import write_figure, write_text
from scansearch.files.strict import dump_yaml, load_yaml
from scansearch.records.genotype import Genotype
from scansearch.records.lookup import find_genotype
from scansearch.records.weights import load_weights, save_weights
from scansearch.runs.environment import environment
from scansearch.runs.folder import Run, default_folder
from scansearch.runs.recorder import Job, Observer
from scansearch.runs.signals import interruptible
from scansearch.runs.train_result import TrainResult
from scansearch.training.assembly import prepare
from scansearch.training.config import TrainConfig, train_config
from scansearch.training.task import TrainTask

if TYPE_CHECKING:
    from accelerate import Accelerator


def train(
    model: Genotype | str | Path,
    *,
    data: str | None = None,
    out: str | Path | None = None,
    recipe: str | Path | None = None,
    observe: Observer = lambda event: None,
    **options: Any,
) -> TrainResult:
    """Train a model from scratch, in a new run folder.

    Args:
        model: a genotype, the file of one, a run folder that holds one, or a registered model's name.
        data: a data specification; None for the data that the genotype was searched on.
        out: the run folder; by default a new one below ``runs/``.
        recipe: a YAML file with fields of TrainConfig, such as those in ``experiments/``.
        options: any field of :class:`~scansearch.training.config.TrainConfig`, for example ``epochs=5``.

    Raises:
        InputError: nothing has been written. RunStopped (Interrupted): what was written can be resumed.
    """
    genotype = model if isinstance(model, Genotype) else None
    name = f"genotype {genotype.hash}" if genotype is not None else str(model)
    config = train_config(recipe, model=name, data=data, **options)
    return run_training(config, genotype, out=out, observe=observe)


def run_training(
    config: TrainConfig,
    genotype: Genotype | None = None,
    *,
    out: str | Path | None = None,
    observe: Observer = lambda event: None,
) -> TrainResult:
    """:func:`train` with a whole configuration; ``genotype`` goes before ``config.model``."""
    return _Training.create(config, genotype or find_genotype(config.model), out, observe).finish()


def resume_training(folder: str | Path, *, observe: Observer = lambda event: None) -> TrainResult:
    """Continue an interrupted training from its last intact checkpoint, or score a finished one again."""
    return _Training.open(Run.open(folder), observe).finish()


class _Training:
    """One training and the folder that it writes to."""

    def __init__(
        self,
        config: TrainConfig,
        genotype: Genotype,
        data: ImageData,
        accelerator: Accelerator,
        observe: Observer,
    ) -> None:
        self.config, self.genotype, self.data = config, genotype, data
        self.accelerator, self.observe = accelerator, observe
        self.writes = accelerator.is_main_process
        self.task = TrainTask(config, genotype, data, accelerator)
        at_once = config.batch_size // (accelerator.num_processes * config.accumulate)
        image = (data.channels, *data.image_size)
        with accelerator.autocast():
            self.forecast = forecast(self.task.model, image, at_once, device=accelerator.device)
        check_memory(self.forecast, at_once)
        self.run: Run

    @classmethod
    def create(
        cls, config: TrainConfig, genotype: Genotype, out: str | Path | None, observe: Observer
    ) -> _Training:
        accelerator = engine.make_accelerator(config.device, config.mixed_precision)
        config, data = prepare(config, genotype)
        job = cls(config, genotype, data, accelerator, observe)
        name = genotype.space or Path(config.model).stem.replace(" ", "-")
        folder = Path(out) if out is not None else default_folder(name, "train", config.seed)
        if job.writes:
            settings = dump_yaml(config.model_dump(mode="json", by_alias=True))
            Run.create(folder, settings, environment(str(accelerator.device), config.seed))
            genotype.save(folder / "genotype.yaml")
        accelerator.wait_for_everyone()
        job.run = Run(folder)
        return job

    @classmethod
    def open(cls, run: Run, observe: Observer) -> _Training:
        config = load_yaml(run.folder / "config.yaml", TrainConfig)
        accelerator = engine.make_accelerator(config.device, config.mixed_precision)
        config, data = prepare(config, run.genotype)
        job = cls(config, run.genotype, data, accelerator, observe)
        job.run = run
        return job

    @property
    def best_file(self) -> Path:
        return self.run.folder / "best.safetensors"

    def finish(self) -> TrainResult:
        """Train, then score the best weights and write the result."""
        with interruptible(self.run.folder, "train"):
            return self._finish()

    def _finish(self) -> TrainResult:
        config, task = self.config, self.task
        job = Job(
            run=self.run,
            task=task,
            data=self.data,
            accelerator=self.accelerator,
            seed=config.seed,
            checkpoint_minutes=config.checkpoint_minutes,
            command="train",
            heading=f"training of {config.model} from scratch on {config.data}",
            parameters=self.forecast.parameters,
            needs=describe(self.forecast),
            observe=self.observe,
        )
        started = time.monotonic()
        job.drive(on_epoch=self._keep_best)
        seconds = time.monotonic() - started
        self.accelerator.wait_for_everyone()
        best = load_weights(self.best_file)
        task.scored_model.load_state_dict(best.model.state_dict())
        scores = {split: self._evaluate(split) for split in ("validation", "test")}
        job.log_broken(task.epochs * task.steps_per_epoch)
        result = TrainResult(
            run=self.run,
            config=config,
            genotype=self.genotype,
            best_epoch=int(best.notes["epoch"]) + 1,
            validation=scores["validation"],
            test=scores["test"],
            figures={
                "params": self.forecast.parameters,
                "flops": full_flops(task.model, *self.data.image_size),
                "seconds": seconds,
            },
            baseline=self.data.baseline() if self.data.baseline is not None else None,
        )
        if self.writes:
            self._write(result)
        return result

    def _keep_best(self, event: engine.EpochDone) -> None:
        if not (self.task.improved and self.writes):
            return
        arguments = self.task.arguments | {"img_size": list(self.data.image_size)}
        notes = {
            "data": self.config.data,
            "classes": list(self.data.classes),
            "mean": self.data.mean,
            "std": self.data.deviation,
            "epoch": event.epoch,
            "validation_accuracy": event.metrics["validation_accuracy"],
            "seed": self.config.seed,
            "scansearch": __version__,
        }
        save_weights(self.best_file, self.task.scored_model, self.genotype, arguments, notes)

    def _evaluate(self, split: Any) -> Evaluation:
        return evaluate_model(
            cast(Any, self.task.scored_model.eval()),
            self.data,
            self.accelerator,
            split=split,
            batch_size=max(1, 2 * self.config.batch_size // self.accelerator.num_processes),
            workers=self.config.workers,
            model=str(self.best_file),
            genotype=self.genotype.hash,
        )

    def _write(self, result: TrainResult) -> None:
        from scansearch.plots.training import confusion_figure, curves_figure
        from scansearch.runs.train_result import training_markdown

        folder = self.run.folder
        record = {
            "schema": 1,
            "kind": "train",
            "genotype": self.genotype.hash,
            "best_epoch": result.best_epoch,
            "convention": FULL,
            **result.figures,
            "validation": json.loads(result.validation.to_json()),
            "test": json.loads(result.test.to_json()),
        }
        curves = curves_figure(self.run.metrics("epoch"), best_epoch=result.best_epoch)
        write_figure(folder / "plots" / "training.png", curves)
        write_figure(folder / "plots" / "confusion.png", confusion_figure(result.test))
        write_text(folder / "result.json", json.dumps(record, indent=1) + "\n")
        write_text(folder / "summary.md", training_markdown(result))
