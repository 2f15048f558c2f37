"""``scansearch rank``: whether a search's scores order genotypes as training from scratch does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from scansearch.analysis.fidelity import Fidelity, Sample

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a search.")]
Samples = Annotated[int, typer.Option(help="Genotypes to train from scratch.")]
Directions = Annotated[int | None, typer.Option("--k", help="Directions per layer; default: the run's.")]
Steps = Annotated[int, typer.Option(help="Steps of one training.")]
Trainings = Annotated[int, typer.Option(help="Trainings of each genotype, with different seeds.")]
Seed = Annotated[int, typer.Option(help="Seed of the genotypes and their trainings.")]
Out = Annotated[Path | None, typer.Option(help="JSON file for samples and figures.")]


def rank(
    run: RunFolder,
    samples: Samples = 16,
    k: Directions = None,
    steps: Steps = 200,
    trainings: Trainings = 1,
    seed: Seed = 0,
    out: Out = None,
) -> None:
    """Train some genotypes from scratch, briefly, and tell how well each score of the search ranks them."""
    from rich.console import Console

    from scansearch.analysis.fidelity import fidelity_json, rank_run
    from scansearch.files.atomic import write_text

    progress = Console(stderr=True)

    def show(sample: Sample, done: int) -> None:
        layers = " / ".join(" ".join(names) for names in sample.layers)
        line = f"{done}/{samples}  loss {-sample.truth:.4f}  {layers}"
        progress.print(line, highlight=False, markup=False, soft_wrap=True)

    found = rank_run(run, samples=samples, k=k, steps=steps, trainings=trainings, seed=seed, observe=show)
    if out is not None:
        write_text(out, fidelity_json(found))
    _show(found)


def _show(found: Fidelity) -> None:
    from rich.table import Table

    from scansearch.cli.screen import wide_console

    console = wide_console()
    table = Table("score", "Kendall's tau", "90 % interval", f"top {found.k}", "by chance", box=None)
    for one in found.agreements:
        low, high = one.interval
        table.add_row(
            one.score,
            f"{one.tau:+.2f}",
            f"{low:+.2f} to {high:+.2f}",
            f"{100 * one.top_k:.0f} %",
            f"{100 * one.top_k_by_chance:.0f} %",
        )
    console.print(table, highlight=False)
    console.print(
        f"\n{len(found.samples)} genotypes, {len(found.samples[0].losses)} trainings each; "
        "the truth is their validation loss from scratch",
        highlight=False,
        soft_wrap=True,
    )
