"""Derivation is exact: equal to brute force on small instances and to SciPy's milp on large ones."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.derive_cases import (
    FLAT,
    NAMES,
    TWO,
    WANTED,
    brute_force,
    derived,
    instances,
    make_costs,
    make_preferences,
    make_space,
    subsets,
)

from scansearch.derivation.derive import derive, pareto_front
from scansearch.errors import InputError
from scansearch.records.space import load_space


@settings(max_examples=80, deadline=None)
@given(instances(st.integers(0, 3)))
def test_ties_are_broken_as_documented_exactly_like_brute_force(instance):
    preferences, costs, low, high, budgets = instance
    layers = len(preferences.candidates)
    found = brute_force(preferences, costs, [low] * layers, [high] * layers, budgets)
    assert found is not None  # the budgets are those of some choice
    genotype = derived(*instance)
    assert [set(names) for names in genotype.layers] == [set(names) for names in found[1]]
    assert genotype.certificate.objective == genotype.certificate.bound == -found[0][0]


@settings(max_examples=80, deadline=None)
@given(instances(st.floats(0, 1, allow_subnormal=False)))
def test_random_figures_reach_the_objective_of_brute_force(instance):
    preferences, costs, low, high, budgets = instance
    layers = len(preferences.candidates)
    found = brute_force(preferences, costs, [low] * layers, [high] * layers, budgets)
    assert found is not None
    genotype = derived(*instance)
    assert genotype.certificate.objective == pytest.approx(-found[0][0], abs=1e-9)
    assert genotype.certificate.bound == genotype.certificate.objective
    totals = costs.of(genotype.layers)
    assert totals == genotype.certificate.spent
    for measure, limit in budgets.items():
        assert totals[measure] <= limit


def test_costs_far_below_the_largest_still_count_in_the_smallest_feasible_value():
    candidates = [["h", "v", "w2", "w7"]]
    costs = make_costs(candidates, [[1.0, 1e-39, 0.0, 2e-39]])
    preferences = make_preferences(candidates, [[0.1, 0.5, 0.2, 0.2]])
    genotype = derive(preferences, k=1, costs=costs, max_flops=0.0, space=make_space(candidates))
    assert genotype.layers == (("w2",),)
    with pytest.raises(InputError, match="smallest feasible value is 1e-39"):
        derive(preferences, k=2, costs=costs, max_flops=0.0, space=make_space(candidates))


@settings(max_examples=100, deadline=None)
@given(instances(st.integers(0, 5)), st.floats(0.2, 1.0))
def test_infeasible_budgets_are_told_with_the_smallest_feasible_value(instance, factor):
    preferences, costs, low, high, budgets = instance
    budgets = {measure: math.floor(limit * factor) for measure, limit in budgets.items()}
    layers = len(preferences.candidates)
    everything = [low] * layers, [high] * layers
    if brute_force(preferences, costs, *everything, budgets) is not None:
        derived(preferences, costs, low, high, budgets)
        return
    with pytest.raises(InputError, match="cannot be met") as caught:
        derived(preferences, costs, low, high, budgets)
    for measure, limit in budgets.items():
        marker = f"of max_{measure} "
        if marker in str(caught.value):
            told = float(str(caught.value).partition(marker)[2].partition(",")[0])
        elif f"max_{measure} = {limit} cannot be met: " in str(caught.value):
            told = float(str(caught.value).rpartition("feasible value is ")[2].split()[0])
            budgets = {measure: limit}
        else:
            continue
        assert told > limit
        assert brute_force(preferences, costs, *everything, budgets | {measure: told}) is not None
        assert brute_force(preferences, costs, *everything, budgets | {measure: told - 1e-6}) is None


def random_tables(generator, layers, count, budgets):
    return [generator.uniform(1, 2, (layers, count)) for _ in range(budgets)]


@pytest.mark.parametrize(("count", "seed"), [(8, 0), (8, 1), (16, 2)])
def test_33_layers_with_three_budgets_agree_with_scipy_milp(count, seed):
    from scipy.optimize import Bounds, LinearConstraint, milp

    space = load_space(f"vmamba{count}")
    candidates = space.layer_candidates("small")
    generator = np.random.default_rng(seed)
    scores = generator.dirichlet(np.ones(count), 33)
    tables = random_tables(generator, 33, count, 3)
    costs = make_costs(candidates, *tables, image_size=[448, 448])
    preferences = make_preferences(candidates, scores).model_copy(
        update={"space": space.name, "variant": "small"}
    )
    free = derive(preferences, k=4, costs=costs).certificate
    limits = {f"max_{measure}": 0.96 * value for measure, value in free.spent.items()}
    certificate = derive(preferences, k=4, costs=costs, **limits).certificate

    rows = np.kron(np.eye(33), np.ones(count))
    flat = np.array([table.ravel() for table in tables])
    solved = milp(
        -scores.ravel(),
        integrality=np.ones(scores.size),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(rows, 4, 4), LinearConstraint(flat, -np.inf, list(limits.values()))],
        options={"mip_rel_gap": 1e-5},
    )
    assert certificate.objective >= -solved.fun - 1e-6
    assert certificate.objective <= -solved.mip_dual_bound + 1e-6
    assert certificate.bound == certificate.objective
    assert certificate.lost_to_budget == pytest.approx(free.objective - certificate.objective)


def test_all_tied_at_33_layers_ends_at_the_first_names():
    space = load_space("vmamba16")
    candidates = space.layer_candidates("small")
    ones = np.ones((33, 16))
    preferences = make_preferences(candidates, ones).model_copy(
        update={"space": "vmamba16", "variant": "small"}
    )
    cheap_last = ones + (np.arange(16) < 8)
    costs = make_costs(candidates, ones, ones, cheap_last, image_size=[448, 448])
    genotype = derive(preferences, k=4, costs=costs, max_latency_ms=33 * 4 + 20)
    # ties go to the lowest latency: the last eight candidates, and among those to the first four names
    assert genotype.certificate.spent["latency_ms"] == 33 * 4
    assert {frozenset(names) for names in genotype.layers} == {frozenset(sorted(candidates[0][8:])[:4])}


# --- the front ---


@settings(max_examples=15, deadline=None)
@given(instances(st.integers(0, 4)))
def test_the_front_is_that_of_brute_force(instance):
    preferences, costs, low, high, _ = instance
    space = make_space(preferences.candidates)
    front = pareto_front(preferences, 100, costs=costs, k_min=low, k_max=high, space=space)
    points = [(point.certificate.spent["flops"], point.certificate.objective) for point in front]
    choices = itertools.product(*(subsets(names, low, high) for names in preferences.candidates))
    everything = {}
    for layers in choices:
        cost = costs.of(layers)["flops"]
        score = sum(
            preferences.scores[layer][preferences.candidates[layer].index(name)]
            for layer, names in enumerate(layers)
            for name in names
        )
        everything[cost] = max(score, everything.get(cost, -math.inf))
    expected, best = [], -math.inf
    for cost in sorted(everything):
        if everything[cost] > best:
            best = everything[cost]
            expected.append((cost, best))
    assert points == expected


def test_the_front_holds_at_most_n_points_with_both_ends():
    generator = np.random.default_rng(4)
    candidates = [NAMES] * 5
    preferences = make_preferences(candidates, generator.random((5, 6)))
    costs = make_costs(candidates, generator.uniform(1, 2, (5, 6)))
    space = make_space(candidates)
    front = pareto_front(preferences, 7, costs=costs, space=space)
    spent = [point.certificate.spent["flops"] for point in front]
    wanted = [point.certificate.objective for point in front]
    assert len(front) == 7
    assert spent == sorted(set(spent))
    assert wanted == sorted(set(wanted))
    assert spent[0] == pytest.approx(math.fsum(min(row) for row in costs.flops.table))
    assert front[-1].layers == derive(preferences, k_min=1, space=space).layers
    (only,) = pareto_front(preferences, 1, costs=costs, space=space)
    assert only.layers == front[-1].layers


def test_the_front_of_equal_costs_is_one_point_and_bad_arguments_are_told():
    preferences, space, costs = make_preferences(TWO, WANTED), make_space(TWO), make_costs(TWO, FLAT)
    assert len(pareto_front(preferences, 5, costs=costs, k=2, space=space)) == 1
    with pytest.raises(InputError, match="at least 1"):
        pareto_front(preferences, 0, costs=costs, space=space)
    with pytest.raises(InputError, match=r"allowed: flops, params"):
        pareto_front(preferences, 2, costs=costs, measure="latency_ms", space=space)
