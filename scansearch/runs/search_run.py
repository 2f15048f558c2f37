"""The whole job, left to right: search, select, derive, score, and a run folder that holds everything.

:mod:`scansearch.runs.recorder` writes what happens on the way, by the main process only;
``observe`` gets the same events.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scansearch import engine
from scansearch.costing.decoders import dense_flops
from scansearch.costing.flops import full_flops
from scansearch.costing.memory import describe
from scansearch.data.order_free import order_free_bar
from scansearch.data.specifications import absolute
from scansearch.derivation.derive import derive
from scansearch.derivation.ranked import ranked_genotypes
from scansearch.files.atomic import write_text
from scansearch.files.strict import load_yaml
from scansearch.records.costs import Costs
from scansearch.records.equal_scans import describe_merged
from scansearch.records.genotype import Genotype
from scansearch.records.lookup import expect_kind, expect_search
from scansearch.records.preferences import Preferences
from scansearch.records.space import SearchSpace, load_space
from scansearch.runs.finished import FinishedTrainings
from scansearch.runs.folder import Run, default_folder
from scansearch.runs.job import RunJob
from scansearch.runs.progress import shown
from scansearch.runs.recorder import Observer, Warned, ignore
from scansearch.runs.search_result import RunResult, SearchResult, summary_markdown
from scansearch.runs.signals import interruptible
from scansearch.runs.verification import FILE as VERIFICATION
from scansearch.runs.verification import Verified, random_genotype, verified_best, verify
from scansearch.searching.assembly import assemble_search, scanned_size
from scansearch.searching.config import SearchConfig, search_config
from scansearch.searching.diagnostics import diagnose, random_walk
from scansearch.searching.selection import as_preferences, magnitude, select
from scansearch.searching.task import SearchTask
from scansearch.text import human
from scansearch.training.brief import BriefRecipe

VERIFICATION_SEED = (
    1000  # times the seed of the search + 1: the first training of `scansearch rank` has it too
)

_LONG = 600.0  # seconds from which on a smaller variant is named

if TYPE_CHECKING:
    from scansearch.data import ImageData
    from scansearch.directions import Layers
    from scansearch.searching.evolution import Evolution


def search(
    space: SearchSpace | str,
    *,
    data: str | ImageData = "digits",
    out: str | Path | None = None,
    progress: bool = True,
    **options: Any,
) -> SearchResult:
    """Train the supernet of ``space`` on ``data``, and read off what it prefers.

    Args:
        space: a :class:`~scansearch.records.space.SearchSpace`, or the name or path of one.
        data: a data specification, see :func:`scansearch.data.load_data`, or images that the program holds, see
            :func:`scansearch.data_from_arrays` and :func:`scansearch.data_from_dataset`.
        out: the run folder; by default a new one below ``runs/``.
        progress: whether a terminal or a notebook shows how far the search is.
        options: any field of :class:`~scansearch.searching.config.SearchConfig`, for example ``epochs=5``,
            ``strategy="darts"``, ``seed=1``.

    Returns:
        SearchResult with ``supernet``, ``preferences`` and ``run``.

    Raises:
        InputError: an unknown option or a value that is not allowed.
        RunStopped: the run had to stop; what it has written can be resumed.
    """
    name = space.name if isinstance(space, SearchSpace) else str(space)
    images = None if isinstance(data, str) else data
    config = search_config(space=name, data=data if images is None else images.spec, **options)
    if not isinstance(space, SearchSpace):
        expect_kind(space, ("space",), command="search")
    value = space if isinstance(space, SearchSpace) else load_space(space)
    with shown(progress) as observe:
        return SearchJob.start(config, value, out, observe, images).only_search()


def run_search(
    config: SearchConfig, *, out: str | Path | None = None, observe: Observer = ignore
) -> RunResult:
    """Search, select, derive and score, in a new run folder.

    Raises:
        InputError: nothing has been written. RunStopped (Interrupted): what was written can be resumed.
    """
    expect_kind(config.space, ("space",), command="run")
    return SearchJob.start(config, load_space(config.space), out, observe).finish()


def resume_search(
    folder: str | Path, *, observe: Observer = ignore, data: ImageData | None = None
) -> RunResult:
    """Continue an interrupted run from its last intact checkpoint, or write a finished one's result again.

    ``data``: the images, where the run was given such and not a specification.
    """
    expect_search(folder, command="run --resume")
    return SearchJob.resume(Run.open(folder), observe, data).finish()


class SearchJob(RunJob):
    """One search and the folder that it writes to."""

    command = "run"

    def __init__(self, task: SearchTask, observe: Observer) -> None:
        # The sampled relaxations compute a part of the branches in each step.
        super().__init__(task, task.supernet, observe, whole=task.config.relaxation in ("softmax", "sigmoid"))
        self.config, self.space, self.task = task.config, task.space, task

    @classmethod
    def start(
        cls,
        config: SearchConfig,
        space: SearchSpace,
        out: str | Path | None,
        observe: Observer,
        images: ImageData | None = None,
    ) -> SearchJob:
        """A new search in a new folder: ``out``, or one below ``runs/``."""
        config = config.model_copy(update={"data": absolute(config.data)})
        job = cls(assemble_search(config, space, images, merge=True), observe)
        folder = (
            Path(out)
            if out is not None
            else default_folder(space.name, config.strategy, config.seed, config.data)
        )
        job.create(folder)
        return job

    @classmethod
    def resume(cls, run: Run, observe: Observer, images: ImageData | None = None) -> SearchJob:
        """The search in the folder of ``run``."""
        config = load_yaml(run.folder / "config.yaml", SearchConfig)
        space = load_yaml(run.folder / "space.yaml", SearchSpace)
        job = cls(assemble_search(config, space, images), observe)
        job.reopen(run)
        return job

    def reopen(self, run: Run) -> None:
        super().reopen(run)
        path = run.folder / "costs.json"
        if self.writes and (not path.is_file() or path.read_bytes() != self.costs.to_json().encode()):
            self.observe(Warned(f"{path} was lost or changed since the start: it is written anew"))
            self.costs.save(path)

    def records(self) -> dict[str, str]:
        return {"space.yaml": self.space.to_yaml(), "costs.json": self.costs.to_json()}

    @property
    def costs(self) -> Costs:
        assert self.task.costs is not None
        return self.task.costs

    # --- search ---

    def only_search(self) -> SearchResult:
        """:meth:`search`, with the folder locked."""
        with self.locked():
            return self.search()

    def search(self) -> SearchResult:
        """Train the supernet to the end and save its preferences."""
        config, task = self.config, self.task
        flops = human(self._supernet_flops())
        heading = f"{config.strategy} search of {config.space} on {config.data}"
        needs = [f"{flops} FLOPs an image", describe(self.forecast)]
        recorder = self.recorder(heading, needs, origin=self._origin())
        recorder.drive(on_epoch=self._save_gates)
        selection = select(task)
        preferences = self._preferences(config.selection, selection.scores)
        if self.writes:
            preferences.save(self.run.folder / "preferences.json")
            if selection.evolution is not None:
                write_text(self.run.folder / "evolution.json", selection.evolution.to_json())
        return SearchResult(task.supernet, preferences, self.run, selection.evolution)

    def _supernet_flops(self) -> int:
        """Of one image through all branches, with the decoder where there is one."""
        supernet, size = self.task.supernet, self.data.image_size
        if supernet.decoder is not None:
            return dense_flops(supernet.backbone, supernet.decoder, *size)
        return full_flops(supernet.backbone, *size)

    def _origin(self) -> tuple[str, ...]:
        merged = (f"space: {line}" for line in self._merged())
        return (*self._smaller_variants(), *merged, *self._verification_forecast())

    def _smaller_variants(self) -> list[str]:
        """What to ask for instead where the run takes long."""
        if self.least_seconds is None or self.least_seconds < _LONG:
            return []
        sizes = [
            f"--variant {name} ({variant.image_size} pixels, {variant.layers} layers)"
            for name in self.space.smaller_variants(self.config.variant)
            for variant in [self.space.variant(name)]
        ]
        return [f"time: for a first look, a smaller variant: {', '.join(sizes)}"] if sizes else []

    def _verification_forecast(self) -> list[str]:
        """How much the verification will cost, told before the search."""
        count, steps = self.config.verify, self._recipe().steps
        if not count:
            return []
        total = f"verification: up to {count + 1} trainings of {steps} steps after the search"
        if self.least_seconds is None:  # of what a step costs
            return [total]
        layers = self.costs.candidates
        gates = [[min(1.0, self.config.k / len(names))] * len(names) for names in layers]
        whole = full_flops(self.task.supernet.backbone, *self.data.image_size)
        share = self.costs.expected(gates)["flops"] * steps / whole
        share /= self.task.epochs * self.task.steps_per_epoch
        return [f"{total}, each about {100 * share:.0f} % of its FLOPs"]

    def _merged(self) -> tuple[str, ...]:
        grids = self.space.grids(self.config.variant, scanned_size(self.config, self.space, self.data))
        return tuple(describe_merged(self.space.merged, grids))

    def _save_gates(self, event: engine.EpochDone) -> None:
        """Keep the preferences of an unfinished run up to date, so that it can be derived from at no cost."""
        if self.writes and self.config.selection == "magnitude":
            gates = magnitude(self.task.relaxation, self.task.supernet.alphas)
            preferences = self._preferences("magnitude", engine.jsonable(gates))
            preferences.save(self.run.folder / "preferences.json")

    def _preferences(self, selection: str, scores: list[list[float]]) -> Preferences:
        return as_preferences(self.task, selection, scores, run=self.run.folder.name)

    # --- the rest of the job ---

    def finish(self) -> RunResult:
        """Search, then derive, score on the test split, and write the result."""
        with self.locked(), interruptible(self.run.folder, "run"):
            return self._finish()

    def _finish(self) -> RunResult:
        searched = self.search()
        if searched.evolution is not None:
            genotype = self._evolved(searched.evolution, searched.preferences)
        else:
            genotype = derive(searched.preferences, k=self.config.k, costs=self.costs, space=self.space)
        task = self.task.kind
        test = self.task.score_test()
        validation = self.task.score_validation()
        diagnosis = diagnose(
            searched.preferences,
            genotype,
            self.run.metrics("epoch"),
            supernet=validation,
            subnetwork=self.task.score_validation(self.task.subnetwork(genotype.layers)),
            learned_epochs=self.config.epochs - self.config.alphas.warmup_epochs,
            mirrors=self.data.augment is not None and self.data.augment.mirrors,
            order_free=order_free_bar(self.data) if self.config.task == "classify" else None,
            walk=self._walk(),
        )
        for warning in diagnosis.warnings:
            self.observe(Warned(warning))
        verified = self._verify(searched, genotype)
        if verified:
            genotype = _chosen(verified)
        result = RunResult(
            run=self.run,
            preferences=searched.preferences,
            genotype=genotype,
            test_accuracy=test[task.score_name],
            validation_accuracy=validation[task.score_name],
            baseline=self.baseline(),
            costs=self.costs.of(genotype.layers),
            diagnosis=diagnosis,
            merged=self._merged(),
            verified=tuple(verified),
            task=self.config.task,
        )
        if self.writes:
            self._write_result(result)
        return result

    def _walk(self) -> float | None:
        """How far noise alone would have moved an alpha; None where the gates are not a softmax of learned alphas."""
        config = self.config
        epochs = len(self.run.metrics("epoch")) - config.alphas.warmup_epochs
        if config.relaxation != "softmax" or config.selection != "magnitude" or epochs < 1:
            return None
        return random_walk(config.alphas.lr, epochs * self.task.steps_per_epoch)

    def _verify(self, searched: SearchResult, genotype: Genotype) -> list[Verified]:
        """Train the best-ranked genotypes briefly, the ``genotype`` of the search first."""
        config, task = self.config, self.task
        count = config.verify
        if not count:
            return []
        if searched.evolution is not None:
            best = sorted(searched.evolution.scored, key=lambda one: (one.loss, one.cost, one.layers))
            others = [self._genotype(one.layers, searched.preferences) for one in best]
            ranked = [genotype, *(one for one in others if one.layers != genotype.layers)][:count]
        else:
            ranked = ranked_genotypes(
                searched.preferences, count, k=config.k, costs=self.costs, space=self.space
            )
        variant = searched.preferences.variant
        return verify(
            ranked,
            random_genotype(self.space, variant, config.k, config.seed, ranked),
            task.data,
            self._recipe(),
            seed=VERIFICATION_SEED * (config.seed + 1),
            accelerator=self.accelerator,
            finished=FinishedTrainings(self.run.folder / VERIFICATION),
            observe=self.observe,
        )

    def _recipe(self) -> BriefRecipe:
        """The recipe of the verification: batch size, learning rate, decay and clipping are the search's."""
        config = self.config
        return BriefRecipe(
            steps=config.verify_steps or math.ceil(2 * self.task.epochs * self.task.steps_per_epoch / 3),
            batch_size=config.batch_size,
            lr=config.weights.lr,
            weight_decay=config.weights.weight_decay,
            clip_norm=config.weights.clip_norm or math.inf,
        )

    def _genotype(self, layers: Layers, preferences: Preferences, note: str | None = None) -> Genotype:
        provenance = preferences.provenance.model_copy(update={"note": note})
        return Genotype.of_space(self.space, layers, variant=preferences.variant, provenance=provenance)

    def _evolved(self, evolution: Evolution, preferences: Preferences) -> Genotype:
        """The sub-network that scored best itself, which the sum of the preferences only approximates."""
        note = f"lowest validation loss of {len(evolution.scored)} sub-networks with inherited weights"
        return self._genotype(evolution.best.layers, preferences, note)

    def _write_result(self, result: RunResult) -> None:
        from scansearch.plots.search import preferences_figure, trajectories_figure

        folder = self.run.folder
        score = "top1" if self.config.task == "classify" else self.task.kind.score_name
        record = {
            "schema": 1,
            "kind": "search",
            "genotype": result.genotype.hash,
            **result.costs,
            "validation": {score: result.validation_accuracy},
            "test": {score: result.test_accuracy},
            "warnings": list(result.diagnosis.warnings),
        }
        write_text(folder / "result.json", json.dumps(record, indent=1) + "\n")
        write_text(folder / "summary.md", summary_markdown(result, self.config))
        result.genotype.save(folder / "genotype.yaml")  # with it the run counts as finished
        # Drawn last: whatever a picture meets, the result is kept.
        preferences, genotype = result.preferences, result.genotype
        self.draw("preferences.png", lambda: preferences_figure(preferences, genotype))
        epochs = self.run.metrics("epoch")
        self.draw("trajectories.png", lambda: trajectories_figure(epochs, preferences.candidates, genotype))
        self.report()


def _chosen(verified: Sequence[Verified]) -> Genotype:
    """The genotype that verification found best, which says so; the search's own certificate holds for rank 1 alone."""
    best = verified_best(verified)
    sources = ", ".join(f"{one.source} {one.loss:.4f}" for one in verified)
    note = f"lowest validation loss (nats) of {len(verified)} brief trainings from scratch: {sources}"
    genotype = best.genotype
    before = verified[0].genotype.provenance
    earlier = f"{before.note}; " if before.note else ""
    return genotype.model_copy(
        update={"provenance": before.model_copy(update={"note": f"{earlier}{note}; this is {best.source}"})}
    )
