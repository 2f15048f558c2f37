"""``scansearch evolve``: the best sub-networks of a search with inherited weights, within budgets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from scansearch.cli.options import (
    AsJson,
    KMax,
    KMin,
    MaxFlops,
    MaxParams,
    Measure,
    SearchFolder,
    Seed,
    k_option,
    option,
)

if TYPE_CHECKING:
    from scansearch.runs.evolve_run import EvolveResult

K = Annotated[int | None, k_option("the run's")]
Evaluations = Annotated[int, option(help="Sub-networks to score, over all processes")]
ProposedBy = Annotated[
    str,
    option("--proposals", help="What says which sub-network is scored next: model (of the loss) or nsga2"),
]
Population = Annotated[
    int | None, option(help="With nsga2: sub-networks that survive a generation", default="20")
]
Out = Annotated[Path | None, option(help="Write the genotypes of the front here, as NAME-1.yaml and so on")]


def evolve(
    run: SearchFolder,
    k: K = None,
    k_min: KMin = None,
    k_max: KMax = None,
    max_flops: MaxFlops = None,
    max_params: MaxParams = None,
    measure: Measure = "flops",
    evaluations: Evaluations = 100,
    proposals: ProposedBy = "model",
    population: Population = None,
    seed: Seed = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Search the sub-networks of a trained supernet; show the front of validation loss and cost.

    The same command in another process shares the work; after an interruption it goes on where it was.
    """
    from scansearch.cli.screen import print_warning, save_genotypes
    from scansearch.files.outputs import check_file, numbered
    from scansearch.runs.evolve_run import evolve as evolve_run

    check_file(out)
    result = evolve_run(
        run,
        k=k,
        k_min=k_min,
        k_max=k_max,
        max_flops=max_flops,
        max_params=max_params,
        measure=measure,
        evaluations=evaluations,
        proposals=proposals,
        population=population,
        seed=seed or 0,
        warn=print_warning,
    )
    files = None if out is None else numbered(out, len(result.genotypes))
    if as_json:
        _show_json(result, files)
    else:
        _show(result)
    save_genotypes(result.genotypes, files, quiet=as_json)


def _show_json(result: EvolveResult, files: Sequence[Path] | None) -> None:
    """The front: what each sub-network is, scores and costs, and its file."""
    from scansearch.cli.screen import file_names, print_json

    front = zip(result.genotypes, result.evolution.front, file_names(result.genotypes, files), strict=True)
    print_json(
        {
            "genotype": genotype.hash,
            "layers": one.layers,
            "loss": one.loss,
            "cost": one.cost,
            "measure": result.evolution.measure,
            "file": file,
        }
        for genotype, one, file in front
    )


def _show(result: EvolveResult) -> None:
    from scansearch.cli.screen import print_lines, print_table
    from scansearch.text import human

    evolution, own = result.evolution, result.own
    measure = evolution.measure or "cost"
    print_table(
        ("validation loss", measure, "directions"),
        [
            (f"{one.loss:.4f}", human(one.cost), " / ".join(" ".join(names) for names in one.layers))
            for one in evolution.front
        ],
        left=3,
    )
    lines = ["", f"{len(evolution.scored)} sub-networks scored, {len(evolution.front)} on the front"]
    if len(evolution.scored) > 1 and len({one.cost for one in evolution.scored}) == 1:
        lines.append(
            f"all of them cost the same ({human(evolution.best.cost)} {measure}), so the front is the best of them "
            "alone: --k-min and --k-max let costs differ"
        )
    if own is not None:
        lines.append(
            f"the genotype that the search chose: validation loss {own.loss:.4f}, {measure} {human(own.cost)}"
        )
    print_lines([*lines, f"scores written to {result.journal}"])
