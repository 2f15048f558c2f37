"""The whole job, left to right: search, select, derive, score, and a run folder that holds everything.

:mod:`scansearch.driving` writes what happens on the way, by the main process only; ``observe`` hears it too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scansearch import engine, runs
from scansearch.costing import full_flops, space_costs
from scansearch.data import ImageData, load_data
from scansearch.derive import derive
from scansearch.diagnostics import Diagnosis, diagnose
from scansearch.driving import Job, Observer, Warned, interruptible
from scansearch.errors import InputError
from scansearch.forecast import Forecast, check_memory, describe, forecast
from scansearch.genotype import Genotype
from scansearch.preferences import Preferences
from scansearch.runs import Run
from scansearch.search.config import SearchConfig, search_config
from scansearch.search.loop import SearchTask
from scansearch.selection import as_preferences, magnitude, select
from scansearch.spaces import SearchSpace, load_space
from scansearch.summary import human, summary_markdown
from scansearch.yaml_io import dump_yaml, load_yaml

if TYPE_CHECKING:
    from accelerate import Accelerator

    from scansearch.evolution import Evolution
    from scansearch.search.supernet import Supernet


@dataclass(frozen=True)
class SearchResult:
    """What :func:`scansearch.search` gives."""

    supernet: Supernet
    preferences: Preferences
    run: Run
    evolution: Evolution | None = None


@dataclass(frozen=True)
class JobResult:
    """What ``scansearch run`` gives. Accuracies are in percent; ``costs`` are the genotype's totals by measure."""

    run: Run
    preferences: Preferences
    genotype: Genotype
    test_accuracy: float
    validation_accuracy: float
    baseline: tuple[str, float] | None
    costs: dict[str, float]
    diagnosis: Diagnosis


def start_search(
    space: SearchSpace | str, *, data: str = "digits", out: str | Path | None = None, **options: Any
) -> SearchResult:
    """See :func:`scansearch.search`."""
    name = space.name if isinstance(space, SearchSpace) else str(space)
    config = search_config(space=name, data=data, **options)
    job = _Job.create(
        config, space if isinstance(space, SearchSpace) else load_space(space), out, lambda event: None
    )
    return job.search()


def run(
    config: SearchConfig, *, out: str | Path | None = None, observe: Observer = lambda event: None
) -> JobResult:
    """Search, select, derive and score, in a new run folder.

    Raises:
        InputError: nothing has been written. RunStopped (Interrupted): what was written can be resumed.
    """
    return _Job.create(config, load_space(config.space), out, observe).finish()


def resume(folder: str | Path, *, observe: Observer = lambda event: None) -> JobResult:
    """Continue an interrupted run from its last intact checkpoint, or write a finished one's result again."""
    return _Job.open(Run.open(folder), observe).finish()


class _Job:
    """One search and the folder that it writes to."""

    def __init__(
        self,
        config: SearchConfig,
        space: SearchSpace,
        data: ImageData,
        accelerator: Accelerator,
        observe: Observer,
    ) -> None:
        self.config, self.space, self.data = config, space, data
        self.accelerator, self.observe = accelerator, observe
        self.writes = accelerator.is_main_process
        self.costs = space_costs(
            space,
            config.variant,
            image_size=config.image_size,
            num_classes=len(data.classes),
            in_chans=data.channels,
        )
        self.task = SearchTask(config, space, data, accelerator, costs=self.costs)
        at_once = config.batch_size // (accelerator.num_processes * config.accumulate)
        image = (data.channels, *data.image_size)
        self.forecast: Forecast = forecast(self.task.supernet, image, at_once, device=accelerator.device)
        check_memory(self.forecast, at_once)
        self.run: Run

    @classmethod
    def create(
        cls, config: SearchConfig, space: SearchSpace, out: str | Path | None, observe: Observer
    ) -> _Job:
        job = cls._prepare(config, space, observe)
        folder = (
            Path(out) if out is not None else runs.default_folder(space.name, config.strategy, config.seed)
        )
        if job.writes:
            settings = dump_yaml(config.model_dump(mode="json", by_alias=True))
            job.run = Run.create(folder, settings, runs.environment(str(job.accelerator.device), config.seed))
            runs.write_text(folder / "space.yaml", dump_yaml(space.model_dump(mode="json", by_alias=True)))
            job.costs.save(folder / "costs.json")
        job.accelerator.wait_for_everyone()
        job.run = Run(folder)
        return job

    @classmethod
    def open(cls, run: Run, observe: Observer) -> _Job:
        config = load_yaml(run.folder / "config.yaml", SearchConfig)
        job = cls._prepare(config, load_yaml(run.folder / "space.yaml", SearchSpace), observe)
        job.run = run
        return job

    @classmethod
    def _prepare(cls, config: SearchConfig, space: SearchSpace, observe: Observer) -> _Job:
        smallest = min(len(names) for names in space.layer_candidates(config.variant))
        if config.k > smallest:
            raise InputError(
                f"k is {config.k}, but a layer of {space.name!r} has {smallest} candidates (allowed: 1 to {smallest})"
            )
        accelerator = engine.make_accelerator(config.device, config.mixed_precision)
        data = load_data(
            config.data,
            image_size=config.image_size or space.variant(config.variant).image_size,
            augment=config.augment,
            max_broken=config.max_broken,
        )
        return cls(config, space, data, accelerator, observe)

    # --- search ---

    def search(self) -> SearchResult:
        """Train the supernet to the end and save its preferences."""
        config, task = self.config, self.task
        Job(
            run=self.run,
            task=task,
            data=self.data,
            accelerator=self.accelerator,
            seed=config.seed,
            checkpoint_minutes=config.checkpoint_minutes,
            command="run",
            heading=f"{config.strategy} search of {config.space} on {config.data}",
            parameters=self.forecast.parameters,
            needs=(
                f"{human(full_flops(task.supernet.backbone, *self.data.image_size))} FLOPs an image, "
                f"{describe(self.forecast)}"
            ),
            observe=self.observe,
        ).drive(on_epoch=self._save_gates)
        selection = select(task)
        preferences = self._preferences(config.selection, selection.scores)
        if self.writes:
            preferences.save(self.run.folder / "preferences.json")
            if selection.evolution is not None:
                runs.write_text(self.run.folder / "evolution.json", selection.evolution.to_json())
        return SearchResult(task.supernet, preferences, self.run, selection.evolution)

    def _save_gates(self, event: engine.EpochDone) -> None:
        """Keep the preferences of an unfinished run up to date, so that it can be derived from at no cost."""
        if self.writes and self.config.selection == "magnitude":
            gates = magnitude(self.task.relaxation, self.task.supernet.alphas)
            preferences = self._preferences("magnitude", engine.jsonable(gates))
            preferences.save(self.run.folder / "preferences.json")

    def _preferences(self, selection: str, scores: list[list[float]]) -> Preferences:
        return as_preferences(self.task, self.space, selection, scores, run=self.run.folder.name)

    # --- the rest of the job ---

    def finish(self) -> JobResult:
        """Search, then derive, score on the test split, and write the result."""
        with interruptible(self.run.folder, "run"):
            return self._finish()

    def _finish(self) -> JobResult:
        searched = self.search()
        if searched.evolution is not None:
            genotype = self._evolved(searched.evolution, searched.preferences)
        else:
            genotype = derive(searched.preferences, k=self.config.k, costs=self.costs, space=self.space)
        test = self.task.score_test()
        validation = self.task.score_validation()
        diagnosis = diagnose(
            searched.preferences,
            genotype,
            self.run.metrics("epoch"),
            supernet=validation,
            subnetwork=self.task.score_validation(self.task.supernet.subnetwork(genotype.layers)),
        )
        for warning in diagnosis.warnings:
            self.observe(Warned(warning))
        result = JobResult(
            run=self.run,
            preferences=searched.preferences,
            genotype=genotype,
            test_accuracy=test["accuracy"],
            validation_accuracy=validation["accuracy"],
            baseline=self.data.baseline() if self.data.baseline is not None else None,
            costs=self.costs.of(genotype.layers),
            diagnosis=diagnosis,
        )
        if self.writes:
            self._write_result(result)
        return result

    def _evolved(self, evolution: Evolution, preferences: Preferences) -> Genotype:
        """The sub-network that scored best itself, which the sum of the preferences only approximates."""
        note = f"lowest validation loss of {len(evolution.scored)} sub-networks with inherited weights"
        return Genotype.of_space(
            self.space,
            evolution.best.layers,
            variant=preferences.variant,
            provenance=preferences.provenance.model_copy(update={"note": note}),
        )

    def _write_result(self, result: JobResult) -> None:
        from scansearch.plots import preferences_figure, trajectories_figure

        folder = self.run.folder
        runs.write_figure(
            folder / "plots" / "preferences.png", preferences_figure(result.preferences, result.genotype)
        )
        moved = trajectories_figure(self.run.metrics("epoch"), result.preferences.candidates)
        runs.write_figure(folder / "plots" / "trajectories.png", moved)
        record = {
            "schema": 1,
            "kind": "search",
            "genotype": result.genotype.hash,
            **result.costs,
            "validation": {"top1": result.validation_accuracy},
            "test": {"top1": result.test_accuracy},
        }
        runs.write_text(folder / "result.json", json.dumps(record, indent=1) + "\n")
        runs.write_text(folder / "summary.md", summary_markdown(result, self.config))
        result.genotype.save(folder / "genotype.yaml")  # last: with it the run counts as finished
