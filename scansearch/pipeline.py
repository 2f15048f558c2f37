"""The whole job, left to right: search, select, derive, score, and a run folder that holds everything.

:mod:`scansearch.driving` writes what happens on the way, by the main process only; ``observe`` hears it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scansearch import __version__, engine, runs
from scansearch.costing import space_costs
from scansearch.data import ImageData, load_data
from scansearch.derive import derive
from scansearch.driving import Job, Observer
from scansearch.errors import InputError
from scansearch.genotype import Genotype, Provenance
from scansearch.preferences import Preferences
from scansearch.runs import Run
from scansearch.search.config import SearchConfig, search_config
from scansearch.search.loop import SearchTask
from scansearch.selection import select
from scansearch.spaces import SearchSpace, load_space
from scansearch.yaml_io import dump_yaml, load_yaml

if TYPE_CHECKING:
    from accelerate import Accelerator

    from scansearch.search.supernet import Supernet


@dataclass(frozen=True)
class SearchResult:
    """What :func:`scansearch.search` gives."""

    supernet: Supernet
    preferences: Preferences
    run: Run


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
            config.data, image_size=config.image_size or space.variant(config.variant).image_size
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
            parameters=sum(p.numel() for p in task.supernet.parameters()),
            observe=self.observe,
        ).drive()
        preferences = self._select()
        if self.writes:
            preferences.save(self.run.folder / "preferences.json")
        return SearchResult(task.supernet, preferences, self.run)

    def _select(self) -> Preferences:
        task = self.task
        scores = select(self.config.selection, task.relaxation, task.supernet.alphas, task.validation_loss)
        return Preferences(
            space=self.space.name,
            variant=self.config.variant or self.space.default_variant,
            selection=self.config.selection,
            candidates=task.supernet.candidates,
            scores=tuple(tuple(row) for row in engine.jsonable(scores)),
            provenance=Provenance(
                strategy=self.config.strategy,
                selection=self.config.selection,
                data=self.config.data,
                seeds=(self.config.seed,),
                epochs=self.config.epochs,
                runs=(self.run.folder.name,),
                scansearch=__version__,
            ),
        )

    # --- the rest of the job ---

    def finish(self) -> JobResult:
        """Search, then derive, score on the test split, and write the result."""
        searched = self.search()
        genotype = derive(searched.preferences, k=self.config.k, costs=self.costs, space=self.space)
        test = self.task.score_test()
        validation = self.task.score_validation()
        result = JobResult(
            run=self.run,
            preferences=searched.preferences,
            genotype=genotype,
            test_accuracy=test["accuracy"],
            validation_accuracy=validation["accuracy"],
            baseline=self.data.baseline() if self.data.baseline is not None else None,
            costs=self.costs.of(genotype.layers),
        )
        if self.writes:
            self._write_result(result)
        return result

    def _write_result(self, result: JobResult) -> None:
        from scansearch.plots import preferences_figure, trajectories_figure
        from scansearch.summary import summary_markdown

        folder = self.run.folder
        result.genotype.save(folder / "genotype.yaml")
        runs.write_figure(
            folder / "plots" / "preferences.png", preferences_figure(result.preferences, result.genotype)
        )
        moved = trajectories_figure(self.run.metrics("epoch"), result.preferences.candidates)
        runs.write_figure(folder / "plots" / "trajectories.png", moved)
        runs.write_text(folder / "summary.md", summary_markdown(result, self.config))
