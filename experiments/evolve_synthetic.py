"""How near to the best genotype each way to propose genotypes comes: results/evolve.{csv,md}.

    python experiments/evolve_synthetic.py [--repetitions 100] [--seconds 3000]

Made losses of which the best genotype is known, and the benchmark's table by look-up. One row per loss, repetition and
way; it goes on where it was stopped, and the page is made from the table.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from jobs import append_line, one_thread_each, whole_lines

one_thread_each()

from scansearch.directions import Layers  # noqa: E402
from scansearch.files.atomic import write_text  # noqa: E402
from scansearch.records.costs import Costs, CostTable  # noqa: E402
from scansearch.searching.evolution import Evolution, Scored, evolve  # noqa: E402
from scansearch.searching.genotypes import Genotypes  # noqa: E402
from scansearch.seeding import Stream, generate  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results"
NAMES = ("h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w7", "w7_flip")
WAYS = ("model", "nsga2", "swap", "additive", "random")
COLUMNS = ("loss", "repetition", "way", "evaluations", "reached", "lowest", "expected", "hypervolume", "ms")
AT = (16, 50, 100)
NOISE = 0.3


class Made:
    """A loss on ``layers`` x 8 candidates with mean 0 and standard deviation 1 over random genotypes.

    Single effects are normal draws; with ``pairs``, those of any two directions in neighbouring layers are too, and
    make up half of the variance. ``noise`` is one normal draw per genotype, in the same deviations.
    """

    def __init__(self, layers: int, k: int, pairs: bool, noise: float, seed: int) -> None:
        generator = np.random.default_rng([7, seed])
        self.candidates: Layers = (NAMES,) * layers
        self.k, self.noise, self.seed = k, noise, seed
        self.subsets = np.array(
            [[i in chosen for i in range(8)] for chosen in itertools.combinations(range(8), k)], float
        )
        self.single = generator.normal(size=(layers, 8))
        self.pair = generator.normal(size=(layers - 1, 8, 8)) * pairs
        sample = self.subsets[generator.integers(len(self.subsets), size=(4000, layers))]
        if pairs:
            self.pair *= self._single(sample).std() / self._pairs(sample).std()
        values = self._single(sample) + self._pairs(sample)
        self.mean, self.deviation = values.mean(), values.std()
        best = self.subsets @ self.single[0]
        for layer in range(1, layers):  # exact, layer by layer
            joined = best[:, None] + self.subsets @ self.pair[layer - 1] @ self.subsets.T
            best = joined.min(0) + self.subsets @ self.single[layer]
        self.lowest = float((best.min() - self.mean) / self.deviation)

    def _single(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray((rows * self.single).sum((1, 2)))

    def _pairs(self, rows: np.ndarray) -> np.ndarray:
        return np.einsum("nli,lij,nlj->n", rows[:, :-1], self.pair, rows[:, 1:])

    def true(self, layers: Layers) -> float:
        row = np.array([[[name in names for name in NAMES] for names in layers]], float)
        return float((self._single(row) + self._pairs(row))[0] - self.mean) / self.deviation

    def __call__(self, layers: Layers) -> float:
        if not self.noise:
            return self.true(layers)
        key = int("".join(str(int(name in names)) for names in layers for name in NAMES), 2)
        return self.true(layers) + self.noise * float(np.random.default_rng([9, self.seed, key]).normal())


class Priced(Made):
    """One to three directions per layer; the cost of each is a uniform draw, and every direction more is worth 0.5."""

    def __init__(self, layers: int, seed: int) -> None:
        super().__init__(layers, 1, False, 0.0, seed)
        generator = np.random.default_rng([8, seed])
        self.single -= 0.5
        rows = tuple(tuple(row) for row in generator.uniform(0.5, 1.5, (layers, 8)).tolist())
        table = CostTable(fixed=0.0, table=rows)
        self.costs = Costs(
            image_size=(8, 8), convention="made", candidates=self.candidates, flops=table, params=table
        )
        self.dearest = sum(sum(sorted(row)[-3:]) for row in rows)

    def volume(self, scored: list[Scored]) -> float:
        """What the front dominates of losses below 3 deviations times costs below the highest, which counts as 1."""
        total, level = 0.0, 3.0
        for one in sorted(scored, key=lambda one: (one.cost, one.loss)):
            if one.loss < level:
                total += (level - one.loss) * (self.dearest - one.cost)
                level = one.loss
        return total / self.dearest


class Table:
    """The 64 genotypes of vim8-bench; losses are mean test losses over seeds, in nats."""

    def __init__(self) -> None:
        from scansearch.analysis.benchmark import bench_table, genotype_means

        means = genotype_means(bench_table())
        names = tuple(sorted(set(means["layer_1"])))
        self.candidates: Layers = (names, names)
        self.k, self.noise = 1, 0.0
        self.values = {((row.layer_1,), (row.layer_2,)): float(row.mean) for row in means.itertuples()}
        self.lowest = min(self.values.values())

    def true(self, layers: Layers) -> float:
        return self.values[layers]

    __call__ = true


def losses(repetition: int) -> Iterator[tuple[str, Made | Table, int]]:
    """Name, loss and evaluations of everything in the page."""
    yield "vim8-bench", Table(), 16
    for (layers, k), pairs, noise in itertools.product(((4, 2), (8, 1)), (False, True), (0.0, NOISE)):
        name = f"{layers} x 8, k = {k}{', pairs' if pairs else ''}{', noise' if noise else ''}"
        yield name, Made(layers, k, pairs, noise, repetition), 100
    yield "4 x 8, k = 1 to 3, costs", Priced(4, repetition), 100


def swap(genotypes: Genotypes, loss: Callable[[Layers], float], evaluations: int, seed: int) -> list[Scored]:
    """Local search: exchange one direction of the best genotype so far; start anew when none is left."""
    generator = generate(Stream.EVOLUTION, seed)
    scored: dict[Layers, float] = {}
    best: Layers | None = None
    while len(scored) < evaluations:
        if best is None:
            best = genotypes.random(generator)
            scored.setdefault(best, loss(best))
            continue
        moves = [
            (
                *best[:layer],
                tuple(name for name in names if name in {*chosen, put} - {out}),
                *best[layer + 1 :],
            )
            for layer, (names, chosen) in enumerate(zip(genotypes.candidates, best, strict=True))
            for out in chosen
            for put in set(names) - set(chosen)
        ]
        moves = sorted(move for move in moves if move not in scored)
        if not moves:
            best = None
            continue
        move = moves[generator.integers(len(moves))]
        scored[move] = loss(move)
        if scored[move] < scored[best]:
            best = move
    return [Scored(layers, value, 0.0) for layers, value in scored.items()][:evaluations]


def chance(
    genotypes: Genotypes, loss: Callable[[Layers], float], evaluations: int, seed: int
) -> list[Scored]:
    generator = generate(Stream.GENOTYPES, seed)
    scored: dict[Layers, float] = {}
    while len(scored) < evaluations:
        layers = genotypes.random(generator)
        if layers not in scored:
            scored[layers] = loss(layers)
    return [Scored(layers, value, genotypes.cost(layers)) for layers, value in scored.items()]


def scored_by(way: str, loss: Made | Table, evaluations: int, seed: int) -> tuple[Scored, ...]:
    costs = loss.costs if isinstance(loss, Priced) else None
    low, high = (1, 3) if costs is not None else (loss.k, loss.k)
    if way in ("model", "nsga2"):
        return evolve(
            loss.candidates,
            loss,
            k_min=low,
            k_max=high,
            costs=costs,
            evaluations=evaluations,
            proposals=way,
            seed=seed,
        ).scored
    genotypes = Genotypes(loss.candidates, None, low, high, costs, "flops", {})
    return tuple({"swap": swap, "random": chance}[way](genotypes, loss, evaluations, seed))


def measure(name: str, loss: Made | Table, evaluations: int, repetition: int, way: str) -> list[str]:
    """The rows of one search. Regrets: of the best genotype scored, of the lowest loss, of the lowest expected one."""
    started = time.perf_counter()
    if way == "additive":  # the best of an additive model of random genotypes, which it did not have to score
        found = scored_by("random", loss, evaluations, repetition)
        scores = np.array(Evolution(loss.candidates, None, found).marginal_scores(0.1 + loss.noise**2 * 8))
        chosen = [np.sort(np.argsort(-row, kind="stable")[: loss.k]) for row in scores]
        layers = tuple(
            tuple(names[i] for i in row) for names, row in zip(loss.candidates, chosen, strict=True)
        )
        regret = loss.true(layers) - loss.lowest
        return [_line(name, repetition, way, evaluations, regret, regret, regret, None, None)]
    found = scored_by(way, loss, evaluations, repetition)
    spent = (time.perf_counter() - started) * 1000 / evaluations
    lines = []
    for count in [at for at in AT if at <= evaluations]:
        part = Evolution(loss.candidates, None, found[:count])
        regrets = np.array([loss.true(one.layers) for one in part.scored]) - loss.lowest
        values = [one.loss for one in part.scored]
        expected = part.expected_losses() if loss.noise and count == evaluations else values
        volume = loss.volume(list(part.scored)) if isinstance(loss, Priced) else None
        lines.append(
            _line(
                name,
                repetition,
                way,
                count,
                None if volume is not None else regrets.min(),
                None if volume is not None else regrets[np.argmin(values)],
                None if volume is not None else regrets[np.argmin(expected)],
                volume,
                spent,
            )
        )
    return lines


def _line(*values: object) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(
        ["" if value is None else f"{value:.5f}" if isinstance(value, float) else value for value in values]
    )
    return text.getvalue()


def main() -> None:
    from evolve_page import page

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument(
        "--seconds", type=float, default=1e9, help="stop after that long; the next call goes on"
    )
    options = parser.parse_args()
    table, end = RESULTS / "evolve.csv", time.monotonic() + options.seconds
    done = {tuple(row[:3]) for row in csv.reader(whole_lines(table))}
    for repetition in range(options.repetitions):
        for name, loss, evaluations in losses(repetition):
            for way in WAYS:
                skipped = isinstance(loss, Priced) and way in ("swap", "additive")
                if skipped or (name, str(repetition), way) in done or time.monotonic() > end:
                    continue
                lines = measure(name, loss, evaluations, repetition, way)
                append_line(table, "\n".join(lines), header=",".join(COLUMNS))
    write_text(RESULTS / "evolve.md", page(list(csv.DictReader(whole_lines(table)))))


if __name__ == "__main__":
    main()
