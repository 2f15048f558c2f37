"""The best few genotypes are those that a look at all of them gives."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from support.derive_cases import make_costs, make_preferences, make_space

from scansearch.derivation.derive import derive
from scansearch.derivation.ranked import ranked_genotypes
from scansearch.errors import InputError

NAMES = ("h", "h_flip", "v", "v_flip", "w2")


@pytest.mark.parametrize(("sizes", "k"), [((5, 5), 2), ((4, 3, 5), 1), ((3, 3, 3, 3), 2), ((5,), 5)])
def test_the_best_few_are_those_of_all(sizes, k) -> None:
    generator = np.random.default_rng(len(sizes))
    candidates = [NAMES[:size] for size in sizes]
    scores = [generator.random(size).round(1).tolist() for size in sizes]  # with ties
    preferences, space = make_preferences(candidates, scores), make_space(candidates)
    of = [dict(zip(names, row, strict=True)) for names, row in zip(candidates, scores, strict=True)]

    def total(layers) -> float:
        return math.fsum(of[layer][name] for layer, names in enumerate(layers) for name in names)

    every = sorted(
        (total(layers) for layers in itertools.product(*(itertools.combinations(c, k) for c in candidates))),
        reverse=True,
    )
    for count in (1, 4, 17, len(every) + 1):
        found = [one.layers for one in ranked_genotypes(preferences, count, k=k, space=space)]
        assert len(set(found)) == len(found) == min(count, len(every))
        assert [total(layers) for layers in found] == pytest.approx(every[:count])


def test_the_first_is_what_a_derivation_gives() -> None:
    candidates = (NAMES, NAMES)
    preferences, space = make_preferences(candidates, [[1.0] * 5] * 2), make_space(candidates)
    costs = make_costs(candidates, [[5.0, 4.0, 3.0, 2.0, 1.0]] * 2)
    best = derive(preferences, k=2, costs=costs, space=space)
    assert best.layers == (("v_flip", "w2"),) * 2  # all tie, so the cheapest
    assert ranked_genotypes(preferences, 3, k=2, costs=costs, space=space)[0] == best


def test_many_layers_and_candidates_take_no_time_to_count() -> None:
    candidates = [tuple(f"random{seed}" for seed in range(40))] * 33
    scores = np.random.default_rng(0).random((33, 40)).tolist()
    found = ranked_genotypes(make_preferences(candidates, scores), 20, k=20, space=make_space(candidates))
    assert len({one.hash for one in found}) == 20


def test_a_scan_of_two_names_is_chosen_once() -> None:
    candidates = (("h", "v", "w4"),)  # on 4x4 tokens w4 is h
    found = ranked_genotypes(make_preferences(candidates, [[1, 3, 4]]), 9, k=1, space=make_space(candidates))
    assert [one.layers for one in found] == [(("h",),), (("v",),)]


def test_none_is_an_error() -> None:
    with pytest.raises(InputError, match="at least 1"):
        ranked_genotypes(make_preferences([NAMES], [[1.0] * 5]), 0, k=1, space=make_space([NAMES]))
