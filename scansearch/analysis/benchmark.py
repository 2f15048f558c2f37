"""``vim8-bench``: every genotype of a small real task, trained from scratch several times, as a table.

The task is ``translated-digits`` on 10x10 pixels in the space ``vim8-bench`` (two layers, one of eight directions
each, so 64 genotypes); the recipe is :class:`scansearch.training.brief.BriefRecipe`. What a search proposes can be
looked up here instead of being trained. How much of the table is noise is told by :func:`noise`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scansearch.analysis.variance import Noise, components, intraclass
from scansearch.errors import InputError

if TYPE_CHECKING:
    from pandas import DataFrame

TABLE = Path(__file__).resolve().parent / "tables" / "vim8_bench.csv"
GENOTYPE = ["layer_1", "layer_2"]


def bench_table(path: str | Path | None = None) -> DataFrame:
    """The rows of the benchmark, one per training, as a pandas table.

    Columns: ``layer_1`` and ``layer_2`` (directions), ``seed``, ``test_nll`` (mean over 4,000 canvases, nats; lower
    is better), ``test_accuracy`` (percent), ``train_loss`` (nats, mean of the last tenth of the steps), ``seconds``.

    Args:
        path: another table of the same columns; default: the one that comes with scansearch.

    Raises:
        InputError: a file that is missing or has other columns.
    """
    import pandas

    file = TABLE if path is None else Path(path)
    try:
        table = pandas.read_csv(file)
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: not a table ({error})") from None
    missing = [name for name in (*GENOTYPE, "seed", "test_nll", "test_accuracy") if name not in table]
    if missing:
        raise InputError(f"{file}: column {missing[0]!r} is missing")
    return table


def genotype_means(table: DataFrame, measure: str = "test_nll") -> DataFrame:
    """Mean, standard deviation over seeds and number of trainings of every genotype, best first by the mean.

    ``measure`` is ``test_nll`` (lowest first) or ``test_accuracy`` (highest first).
    """
    grouped = table.groupby(GENOTYPE)[measure].agg(["mean", "std", "count"]).reset_index()
    return grouped.sort_values("mean", ascending=measure != "test_accuracy", ignore_index=True)


def noise(table: DataFrame, measure: str = "test_nll", *, resamples: int = 2000, seed: int = 0) -> Noise:
    """Variance components of ``measure`` by one-way analysis of variance over the genotypes with several seeds.

    The interval is that of genotypes drawn again with replacement.

    Raises:
        InputError: fewer than two genotypes have more than one training.
    """
    groups = [rows[measure].to_numpy(float) for _, rows in table.groupby(GENOTYPE) if len(rows) > 1]
    if len(groups) < 2:
        raise InputError("noise needs at least two genotypes that were trained more than once")
    between, within = components(groups)
    generator = np.random.default_rng(seed)
    ratios = []
    for _ in range(resamples):
        drawn = [groups[i] for i in generator.integers(0, len(groups), len(groups))]
        ratios.append(intraclass(*components(drawn)))
    low, high = np.quantile(ratios, [0.05, 0.95])
    return Noise(
        between=float(np.sqrt(between)),
        seeds=float(np.sqrt(within)),
        icc=intraclass(between, within),
        icc_interval=(float(low), float(high)),
        genotypes=len(groups),
    )
