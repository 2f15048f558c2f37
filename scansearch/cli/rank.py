"""``scansearch rank``: whether a search's scores order genotypes as training from scratch does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from scansearch.cli.options import (
    AsJson,
    SearchFolder,
    Seed,
    k_option,
    option,
)

if TYPE_CHECKING:
    from scansearch.analysis.fidelity import Agreement, Fidelity, Sample

Samples = Annotated[int, option(help="Genotypes to train from scratch")]
Directions = Annotated[int | None, k_option("the run's")]
Steps = Annotated[int, option(help="Steps of one training")]
Trainings = Annotated[int, option(help="Trainings of each genotype, with different seeds")]
Out = Annotated[Path | None, option(help="JSON file for samples and figures")]


def rank(
    run: SearchFolder,
    samples: Samples = 16,
    k: Directions = None,
    steps: Steps = 200,
    trainings: Trainings = 1,
    seed: Seed = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Train some genotypes from scratch, briefly, and tell how well each score of the search ranks them."""
    from rich.console import Console

    from scansearch.analysis.fidelity import fidelity_json, rank_run
    from scansearch.files.atomic import write_text
    from scansearch.files.outputs import check_file, make_folder

    check_file(out)
    progress = Console(stderr=True)

    def show(sample: Sample, done: int) -> None:
        layers = " / ".join(" ".join(names) for names in sample.layers)
        line = f"{done}/{samples}  loss {-sample.truth:.4f}  {layers}"
        progress.print(line, highlight=False, markup=False, soft_wrap=True)

    fidelity = rank_run(
        run, samples=samples, k=k, steps=steps, trainings=trainings, seed=seed or 0, observe=show
    )
    if out is not None:
        make_folder(out.parent)
        write_text(out, fidelity_json(fidelity))
    _show(fidelity, as_json)


def _show(fidelity: Fidelity, as_json: bool) -> None:
    from scansearch.cli.screen import print_lines, show_rows

    headings = ("score", "Kendall's tau", "90 % interval", f"top {fidelity.k}", "by chance")
    if show_rows(fidelity.agreements, headings, _cells, as_json=as_json):
        print_lines(
            [
                "",
                f"{len(fidelity.samples)} genotypes, {len(fidelity.samples[0].losses)} trainings each; "
                "the truth is their validation loss from scratch",
            ]
        )


def _cells(agreement: Agreement) -> tuple[str, ...]:
    low, high = agreement.interval
    return (
        agreement.score,
        f"{agreement.tau:+.2f}",
        f"{low:+.2f} to {high:+.2f}",
        f"{100 * agreement.top_k:.0f} %",
        f"{100 * agreement.top_k_by_chance:.0f} %",
    )
