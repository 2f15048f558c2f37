"""Evolution in a finished or interrupted search: its best sub-networks with inherited weights, as genotypes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scansearch._version import __version__
from scansearch.records.genotype import Genotype
from scansearch.records.lookup import expect_search
from scansearch.records.provenance import Provenance
from scansearch.runs.folder import Run
from scansearch.runs.reopen import open_search
from scansearch.searching import evolution
from scansearch.searching.evolution import Evolution, Scored
from scansearch.searching.task import SearchTask


@dataclass(frozen=True)
class EvolveResult:
    """What :func:`scansearch.evolve` gives.

    Attributes:
        genotypes: those of ``evolution.front``, in its order: cheapest first.
        own: the genotype that the run itself chose, scored in the same way; None where it has not chosen yet.
        journal: everything scored so far, beside the run; the same call goes on from it.
    """

    evolution: Evolution
    genotypes: tuple[Genotype, ...]
    journal: Path
    own: Scored | None = None


def evolve(
    folder: str | Path,
    *,
    k: int | None = None,
    k_min: int | None = None,
    k_max: int | None = None,
    max_flops: float | None = None,
    max_params: float | None = None,
    measure: str = "flops",
    evaluations: int = 100,
    proposals: str = "model",
    population: int | None = None,
    seed: int = 0,
    warn: Callable[[str], None] = warnings.warn,
) -> EvolveResult:
    """Search the sub-networks of a trained supernet for validation loss and cost.

        front = scansearch.evolve("runs/NAME", k=3).genotypes

    The same call in another process shares the work; after an interruption it goes on where it was.

    Args:
        folder: the run folder of a search, with its weights in the last intact checkpoint.
        k: directions per layer; with neither ``k`` nor bounds, the run's.
        k_min, k_max: instead of ``k``, bounds on them (default 1 and all candidates).
        max_flops, max_params: budgets for the derived model.
        measure: the cost of the front: ``flops`` or ``params``.
        evaluations: sub-networks to score, over all processes.
        proposals: what says which sub-network to score next: ``model``, a Bayesian model of the loss that starts
            from the preferences of a finished run, or ``nsga2``.
        population: of ``nsga2`` only, sub-networks that survive a generation; default 20.
        warn: hears of every damaged checkpoint that was passed over for an older one.

    Raises:
        InputError: no search there, none with a checkpoint, or wishes that cannot be met.
        RunStopped: the loss of a sub-network is not finite.
    """
    expect_search(folder, command="evolve")
    evolution.check_options(evaluations, proposals, population)
    search = open_search(folder, warn=warn)
    task = search.task
    if k is None and k_min is None and k_max is None:
        k = task.config.k
    limits = {"flops": max_flops, "params": max_params}
    # Named after the checkpoint that was read: another state of the supernet gives other scores.
    journal = search.run.folder / f"evolution-{search.checkpoint.path.stem}.journal"
    outcome = evolution.evolve(
        task.supernet.candidates,
        lambda layers: task.validation_loss(task.subnetwork(layers)),
        k=k,
        k_min=1 if k_min is None else k_min,
        k_max=k_max,
        costs=task.costs,
        measure=measure,
        budgets={name: limit for name, limit in limits.items() if limit is not None},
        evaluations=evaluations,
        proposals=proposals,
        population=population,
        prior=_prior(search.run, task) if proposals == "model" else None,
        seed=seed,
        journal=journal,
    )
    provenance = _provenance(task, search.run.folder.name)
    genotypes = tuple(
        Genotype.of_space(task.space, one.layers, variant=task.config.variant, provenance=provenance)
        for one in outcome.front
    )
    return EvolveResult(outcome, genotypes, journal, _own(search.run, task, outcome))


def _prior(run: Run, task: SearchTask) -> Sequence[Sequence[float]] | None:
    """The preferences of a finished run; those of another one may still change, and None is taken instead."""
    if not (run.folder / "genotype.yaml").is_file() or not (run.folder / "preferences.json").is_file():
        return None
    preferences = run.preferences
    return preferences.scores if preferences.candidates == task.supernet.candidates else None


def _own(run: Run, task: SearchTask, evolution: Evolution) -> Scored | None:
    """The genotype of ``run`` as a sub-network, scored again where the evolution has not met it."""
    if not (run.folder / "genotype.yaml").is_file():
        return None
    pairs = zip(task.supernet.candidates, run.genotype.layers, strict=True)
    layers = tuple(tuple(name for name in names if name in chosen) for names, chosen in pairs)
    met = next((one for one in evolution.scored if one.layers == layers), None)
    if met is not None:
        return met
    table, measure = task.costs, evolution.measure
    cost = 0.0 if table is None or measure is None else table.of(layers)[measure]
    return Scored(layers, task.validation_loss(task.subnetwork(layers)), cost)


def _provenance(task: SearchTask, run: str) -> Provenance:
    config = task.config
    return Provenance(
        strategy=config.strategy,
        selection="evolution",
        data=config.data,
        seeds=(config.seed,),
        epochs=config.epochs,
        runs=(run,),
        scansearch=__version__,
    )
