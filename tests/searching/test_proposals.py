"""Proposals by the model: the most promising genotype there is, within every limit, and few of them find the best."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from scansearch.records.costs import Costs, CostTable
from scansearch.searching.evolution import evolve
from scansearch.searching.genotype_model import GenotypeModel, Variances
from scansearch.searching.genotypes import Genotypes
from scansearch.searching.proposals import Proposals, log_improvement
from scansearch.seeding import Stream, generate

NAMES = ("h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w7", "w7_flip")


class Made:
    """A loss with mean 0 and deviation 1 over random genotypes; ``pairs`` of neighbouring layers are half of it."""

    def __init__(self, layers, k, pairs, seed):
        generator = np.random.default_rng(seed)
        self.candidates, self.k = (NAMES,) * layers, k
        self.single = generator.normal(size=(layers, 8))
        self.pair = generator.normal(size=(layers - 1, 8, 8))
        subsets = np.array([[i in s for i in range(8)] for s in itertools.combinations(range(8), k)], float)
        sample = subsets[generator.integers(len(subsets), size=(2000, layers))]
        self.pair *= pairs * self._singles(sample).std() / self._pairs(sample).std()
        values = self._singles(sample) + self._pairs(sample)
        self.mean, self.deviation = values.mean(), values.std()
        best = subsets @ self.single[0]
        for layer in range(1, layers):
            joined = best[:, None] + subsets @ self.pair[layer - 1] @ subsets.T
            best = joined.min(0) + subsets @ self.single[layer]
        self.lowest = (best.min() - self.mean) / self.deviation

    def _singles(self, rows):
        return (rows * self.single).sum((1, 2))

    def _pairs(self, rows):
        return np.einsum("nli,lij,nlj->n", rows[:, :-1], self.pair, rows[:, 1:])

    def __call__(self, layers):
        row = np.array([[[name in chosen for name in NAMES] for chosen in layers]], float)
        return float((self._singles(row) + self._pairs(row))[0] - self.mean) / self.deviation


def made_costs(candidates, seed=0):
    generator = np.random.default_rng(seed)
    rows = tuple(tuple(generator.uniform(0.5, 1.5, len(names)).tolist()) for names in candidates)
    table = CostTable(fixed=1.0, table=rows)
    return Costs(image_size=(8, 8), convention="made", candidates=candidates, flops=table, params=table)


def space(layers, width, low, high, costs=None, budgets=None):
    return Genotypes((NAMES[:width],) * layers, None, low, high, costs, "flops", budgets or {})


def everything(genotypes):
    options = [
        [c for size in range(low, high + 1) for c in itertools.combinations(names, size)]
        for names, (low, high) in zip(genotypes.candidates, genotypes.sizes, strict=True)
    ]
    return [layers for layers in itertools.product(*options) if genotypes.feasible(layers)]


# Evaluations, and how far from the best genotype the mean of four searches may be, in deviations of a random one.
@pytest.mark.parametrize(
    ("layers", "k", "pairs", "most"), [(4, 2, 0, 0.05), (8, 1, 0, 0.05), (4, 2, 1, 0.25)]
)
def test_sixty_evaluations_come_near_to_the_best_genotype(layers, k, pairs, most) -> None:
    regrets = []
    for seed in range(4):
        loss = Made(layers, k, pairs, seed)
        found = evolve(loss.candidates, loss, k=k, evaluations=60, seed=seed)
        regrets.append(found.best.loss - loss.lowest)
    assert min(regrets) > -1e-9
    assert np.mean(regrets) < most


def test_the_proposal_has_the_largest_expected_improvement_of_all() -> None:
    costs = made_costs((NAMES[:5],) * 2)
    genotypes = space(2, 5, 1, 3)
    limited = space(2, 5, 1, 3, costs, {"flops": 4.5})
    for problem, seed in itertools.product((genotypes, limited), range(4)):
        rest = everything(problem)
        order = np.random.default_rng(seed).permutation(len(rest))[:15]
        scored = [(rest[i], float(np.random.default_rng([seed, i]).normal())) for i in order]
        pending = [layers for layers in rest if layers not in dict(scored)][:2]
        proposals = Proposals(problem)
        proposals._range = (0.0, 0.0)  # no search for a front: the lowest loss alone
        chosen = proposals.next(scored, pending, generate(Stream.EVOLUTION, seed))
        effects = proposals.effects
        rows = np.array([effects.row(layers) for layers, _ in scored])
        losses = np.array([loss for _, loss in scored])
        model = GenotypeModel(
            effects,
            Variances.learn(effects, rows, losses),
            rows,
            losses,
            np.array([effects.row(layers) for layers in pending]),
        )
        new = [layers for layers in rest if layers not in dict(scored) and layers not in pending]
        incumbent = model.predict(rows)[0].min()
        hopes = log_improvement(*model.predict(np.array([effects.row(g) for g in new])), incumbent)
        assert chosen in new
        assert hopes[new.index(chosen)] == pytest.approx(hopes.max(), abs=1e-6)


def test_the_optimum_of_single_effects_is_exact_and_nearly_so_within_a_budget() -> None:
    candidates = (NAMES[:5],) * 3
    for seed, (low, high) in itertools.product(range(6), ((1, 1), (2, 2), (1, 3))):
        costs = made_costs(candidates, seed)
        values = np.random.default_rng(seed).normal(size=(3, 5))

        def worth(layers, values=values):
            return sum(values[i, NAMES.index(n)] for i, names in enumerate(layers) for n in names)

        free = Proposals(space(3, 5, low, high))
        found = free.effects.names(free.optimum(values, []))
        every = everything(free.genotypes)
        assert worth(found) == pytest.approx(min(map(worth, every)))
        spent = sorted(costs.of(layers)["flops"] for layers in every)
        limit = spent[len(spent) // 10]
        tight = Proposals(space(3, 5, low, high, costs, {"flops": limit}))
        found = tight.effects.names(tight.optimum(values, tight._limits))
        best = min(map(worth, everything(tight.genotypes)))
        assert costs.of(found)["flops"] <= limit
        assert worth(found) <= best + 1.5


def test_a_budget_that_leaves_one_genotype_in_many_is_met() -> None:
    candidates = (NAMES,) * 6
    costs = made_costs(candidates)
    cheapest = tuple((min(zip(row, NAMES, strict=True))[1],) for row in costs.flops.table)
    limit = costs.of(cheapest)["flops"]
    found = evolve(candidates, Made(6, 1, 0, 0), costs=costs, budgets={"flops": limit}, evaluations=5)
    assert [one.layers for one in found.scored] == [cheapest]


def volume(found, dearest):
    total, level = 0.0, 3.0
    for one in found.front:
        total += max(level - one.loss, 0.0) * (dearest - one.cost)
        level = min(level, one.loss)
    return total


def test_the_front_of_loss_and_cost_is_found_better_than_by_nsga2() -> None:
    gains = []
    for seed in range(3):
        loss = Made(4, 1, 0, seed)
        loss.single -= 0.5
        costs = made_costs(loss.candidates, seed)
        fronts = [
            evolve(loss.candidates, loss, k_max=3, costs=costs, evaluations=40, proposals=way, seed=seed)
            for way in ("model", "nsga2")
        ]
        # Both ends of it: few directions and many. The model goes on proposing cheap ones.
        assert any(sum(map(len, one.layers)) <= 8 for one in fronts[0].scored[20:])
        sizes = {sum(map(len, one.layers)) for one in fronts[0].front}
        assert min(sizes) <= 5
        assert max(sizes) >= 8
        gains.append(np.divide(*(volume(front, 20.0) for front in fronts)))
    assert np.mean(gains) > 1.1


def test_the_same_seed_gives_the_same_proposals_bit_for_bit_and_another_one_others() -> None:
    loss = Made(4, 2, 1, 0)
    options = {"k_max": 3, "costs": made_costs(loss.candidates), "evaluations": 30}
    one, other, third = (evolve(loss.candidates, loss, seed=seed, **options).scored for seed in (1, 1, 2))
    assert one == other
    assert one != third


def test_what_others_are_scoring_is_proposed_to_no_one_else() -> None:
    loss = Made(4, 2, 1, 0)
    proposals = Proposals(space(4, 8, 2, 2))
    scored = [
        (layers, loss(layers)) for layers in proposals.genotypes.covering(generate(Stream.GENOTYPES, 0))
    ]
    pending = []
    for _ in range(6):
        pending.append(proposals.next(scored, pending, generate(Stream.EVOLUTION, 0, 9)))
    assert len({*pending, *(layers for layers, _ in scored)}) == len(scored) + 6


def test_a_space_that_is_used_up_has_no_proposal_left() -> None:
    proposals = Proposals(space(1, 3, 1, 1))
    scored = [(layers, float(i)) for i, layers in enumerate(everything(proposals.genotypes))]
    assert proposals.next(scored[:2], [], generate(Stream.EVOLUTION, 0)) == scored[2][0]
    assert proposals.next(scored[:2], [scored[2][0]], generate(Stream.EVOLUTION, 0)) is None
    assert proposals.next(scored, [], generate(Stream.EVOLUTION, 0)) is None
    assert proposals.next([], [layers for layers, _ in scored], generate(Stream.EVOLUTION, 0)) is None


@pytest.mark.parametrize("score", [-40.0, -19.9, -3.0, 0.0, 2.5, 30.0])
def test_expected_improvement_is_the_mean_of_the_improvement(score: float) -> None:
    """Against the integral over losses; far below the best one, its logarithm against the tail's expansion."""
    deviation, mean = 0.5, 1.0
    found = log_improvement(np.array([mean]), np.array([deviation]), mean + score * deviation)[0]
    steps = np.linspace(0.0, 12.0 + max(score, 0.0) * 2, 200_001)
    # improvement u has density phi(score - u / deviation) / deviation; the largest exponent is taken out
    exponent = -((score - steps / deviation) ** 2) / 2
    top = exponent.max()
    integral = np.trapezoid(steps * np.exp(exponent - top), steps) / deviation / math.sqrt(2 * math.pi)
    assert found == pytest.approx(top + math.log(integral), abs=5e-3)
