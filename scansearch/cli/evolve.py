"""``scansearch evolve``: the best sub-networks of a search with inherited weights, within budgets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scansearch.errors import InputError

if TYPE_CHECKING:
    from scansearch.searching.evolution import Evolution

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a search.")]
K = Annotated[int | None, typer.Option("--k", help="Directions per layer; default: the run's.")]
KMin = Annotated[int | None, typer.Option("--k-min", help="Instead of --k: at least so many.")]
KMax = Annotated[int | None, typer.Option("--k-max", help="Instead of --k: at most so many.")]
MaxFlops = Annotated[float | None, typer.Option("--max-flops", help="Budget for one image.")]
MaxParams = Annotated[float | None, typer.Option("--max-params", help="Budget of parameters.")]
Measure = Annotated[str, typer.Option("--measure", help="Cost of the front: flops or params.")]
Evaluations = Annotated[int, typer.Option(help="Sub-networks to score, over all processes.")]
Population = Annotated[int, typer.Option(help="Sub-networks that survive a generation.")]
Seed = Annotated[int, typer.Option(help="Seed of the evolution.")]
Out = Annotated[
    Path | None, typer.Option(help="Write the genotypes of the front here, as NAME-1.yaml and so on.")
]


def evolve(
    run: RunFolder,
    k: K = None,
    k_min: KMin = None,
    k_max: KMax = None,
    max_flops: MaxFlops = None,
    max_params: MaxParams = None,
    measure: Measure = "flops",
    evaluations: Evaluations = 100,
    population: Population = 20,
    seed: Seed = 0,
    out: Out = None,
) -> None:
    """Search the sub-networks of a trained supernet by NSGA-II; show the front of validation loss and cost.

    The same command in another process shares the work; after an interruption it goes on where it was.
    """
    from scansearch.records.genotype import Genotype
    from scansearch.runs.reopen import open_search
    from scansearch.searching.evolution import evolve as search

    if out is not None and not out.resolve().parent.is_dir():
        raise InputError(f"--out: folder {str(out.parent)!r} does not exist")
    reopened = open_search(run, warn=lambda line: print(line, file=sys.stderr))
    task, space = reopened.task, reopened.task.space
    sizes: dict[str, Any] = {"k": k, "k_max": k_max} | ({} if k_min is None else {"k_min": k_min})
    if k is None and k_min is None and k_max is None:
        sizes["k"] = task.config.k
    limits = {"flops": max_flops, "params": max_params}
    found = search(
        task.supernet.candidates,
        lambda layers: task.validation_loss(task.supernet.subnetwork(layers)),
        **sizes,
        costs=task.costs,
        measure=measure,
        budgets={name: limit for name, limit in limits.items() if limit is not None},
        evaluations=evaluations,
        population=population,
        seed=seed,
        # Named after the checkpoint: scores of a supernet that has been trained further are other scores.
        journal=run / f"evolution-{reopened.checkpoint.path.stem}.journal",
    )
    _show(found)
    for number, one in enumerate(found.front if out is not None else (), 1):
        assert out is not None
        genotype = Genotype.of_space(space, one.layers, variant=task.config.variant)
        genotype.save(out.with_name(f"{out.stem}-{number}{out.suffix or '.yaml'}"))


def _show(found: Evolution) -> None:
    from rich.table import Table

    from scansearch.cli.screen import wide_console
    from scansearch.text import human

    table = Table("validation loss", found.measure or "cost", "directions", box=None, pad_edge=False)
    for one in found.front:
        layers = " / ".join(" ".join(names) for names in one.layers)
        table.add_row(f"{one.loss:.4f}", human(one.cost), layers)
    console = wide_console()
    console.print(table, highlight=False)
    console.print(
        f"\n{len(found.scored)} sub-networks scored, {len(found.front)} on the front", highlight=False
    )
