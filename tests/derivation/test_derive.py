"""Derivation: what its certificate tells, what may be wished for, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.derive_cases import FLAT, PADDED, TWO, WANTED, make_costs, make_preferences, make_space

from scansearch.derivation.agreement import kendall_tau, seed_agreement
from scansearch.derivation.derive import derive
from scansearch.errors import InputError
from scansearch.records.preferences import Preferences
from scansearch.records.space import load_space

# --- what the certificate tells ---


def test_without_budgets_each_layer_takes_its_top_k():
    genotype = derive(make_preferences(TWO, WANTED), k=2, space=make_space(TWO))
    assert genotype.layers == (("v", "w2"), ("h", "w2"))
    assert genotype.certificate.objective == pytest.approx(1.6)
    assert genotype.certificate.lost_to_budget == 0
    assert genotype.certificate.k == "2"
    assert genotype.certificate.notes == ()


def test_equal_costs_with_fixed_k_make_a_budget_inert_and_it_says_so():
    genotype = derive(
        make_preferences(TWO, WANTED), k=2, costs=make_costs(TWO, FLAT), max_flops=20, space=make_space(TWO)
    )
    assert genotype.certificate.notes == ("max_flops is inert: every choice with k = 2 costs 20",)
    assert genotype.certificate.budgets == {"max_flops": 20}


def test_equal_costs_with_fixed_k_and_a_smaller_budget_name_the_smallest_feasible_value():
    with pytest.raises(InputError) as caught:
        derive(
            make_preferences(TWO, WANTED),
            k=2,
            costs=make_costs(TWO, FLAT),
            max_flops=19,
            space=make_space(TWO),
        )
    assert str(caught.value) == (
        "max_flops = 19 cannot be met: with k = 2 the smallest feasible value is 20 "
        "(every choice costs that much; only fewer directions cost less)"
    )


def test_a_binding_budget_tells_the_loss_and_what_was_spent():
    costs = make_costs(TWO, PADDED, fixed=100.0, device="test bench")
    genotype = derive(make_preferences(TWO, WANTED), k=1, costs=costs, max_flops=110, space=make_space(TWO))
    assert genotype.layers == (("v",), ("h",))
    certificate = genotype.certificate
    assert certificate.lost_to_budget == pytest.approx(0.2)
    assert certificate.spent == {"flops": 110, "params": 110}
    assert certificate.notes == ("max_flops binds: without budgets the best choice costs 114",)
    assert (certificate.convention, certificate.image_size, certificate.device) == (
        "made up",
        (8, 8),
        "test bench",
    )


def test_budgets_that_only_clash_together_are_told_together():
    costs = make_costs([["h", "v"]], [[1, 9]], [[9, 1]])
    with pytest.raises(InputError) as caught:
        derive(
            make_preferences([["h", "v"]], [[1, 2]]),
            k=1,
            costs=costs,
            max_flops=5,
            max_params=5,
            space=make_space([["h", "v"]]),
        )
    assert str(caught.value) == (
        "max_flops = 5, max_params = 5 cannot be met together; with the others as they are, "
        "the smallest feasible value is of max_flops 9, of max_params 9"
    )


def test_a_latency_difference_below_its_noise_counts_as_equal():
    pair = [["h", "v"]]
    wanted = make_preferences(pair, [[0.4, 0.6]])
    level, space = 1.005, make_space(pair)
    noisy = make_costs(pair, [[1, 1]], latency=[[1.0, 1.01]], noise=[[0.05, 0.05]])
    genotype = derive(wanted, k=1, costs=noisy, max_latency_ms=level, space=space)
    assert genotype.layers == (("v",),)
    assert "inert" in genotype.certificate.notes[0]
    assert genotype.certificate.notes[1].endswith("the raw figures sum to 1.01 ms")
    sharp = make_costs(pair, [[1, 1]], latency=[[1.0, 1.01]], noise=[[0.001, 0.001]])
    assert derive(wanted, k=1, costs=sharp, max_latency_ms=level, space=space).layers == (("h",),)
    tied = make_preferences(pair, [[0.5, 0.5]])
    backwards = make_costs(pair, [[1, 1]], latency=[[1.01, 1.0]], noise=[[0.05, 0.05]])
    assert derive(tied, k=1, costs=backwards, space=space).layers == (("h",),)
    clear = make_costs(pair, [[1, 1]], latency=[[1.01, 1.0]], noise=[[0.001, 0.001]])
    assert derive(tied, k=1, costs=clear, space=space).layers == (("v",),)


def test_several_seeds_are_averaged_and_their_agreement_told():
    space = make_space(TWO)
    first = make_preferences(TWO, [[3, 2, 1], [3, 2, 1]], seeds=(0,), runs=("a",))
    second = make_preferences(TWO, [[3, 2, 1], [1, 2, 3]], seeds=(1,), runs=("b",))
    third = make_preferences(TWO, [[3, 2, 1], [1, 2, 4]], seeds=(2,), runs=("c",))
    genotype = derive([first, second, third], k=1, space=space)
    assert genotype.layers == (("h",), ("w2",))
    assert genotype.provenance.seeds == (0, 1, 2)
    assert genotype.provenance.runs == ("a", "b", "c")
    assert genotype.provenance.selection == "magnitude"
    agreement = seed_agreement([first, second, third], [1, 1])
    assert agreement.tau == pytest.approx((1, -1 / 3))
    assert agreement.overlap == pytest.approx((1, 1 / 3))
    assert genotype.certificate.notes == (agreement.describe(),)
    assert "top-k overlap 0.67, Kendall's tau 0.33 (layers -0.33 to 1.00)" in agreement.describe()


def test_preferences_of_different_searches_are_not_averaged():
    one = make_preferences(TWO, WANTED)
    with pytest.raises(InputError, match="differ in selection"):
        derive([one, one.model_copy(update={"selection": "perturbation"})], k=1, space=make_space(TWO))
    with pytest.raises(InputError, match="no preferences"):
        derive([], k=1)


def test_rounding_in_a_mean_decides_no_tie():
    one = make_preferences([["h", "v"]], [[0.3, 0.1]])
    two = make_preferences([["h", "v"]], [[0.0, 0.2]])
    mean = Preferences.mean([one, two]).scores[0]
    assert mean[0] != mean[1]  # 0.15 twice, but not to the last bit
    costs = make_costs([["h", "v"]], [[2, 1]])
    assert derive([one, two], k=1, costs=costs, space=make_space([["h", "v"]])).layers == (("v",),)


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=8), st.randoms())
def test_kendall_tau_equals_scipy(one, random):
    from scipy.stats import kendalltau

    other = [random.randint(0, 4) for _ in one]
    expected = kendalltau(one, other).statistic
    assert kendall_tau(one, other) == pytest.approx(expected, nan_ok=True)


# --- wishes ---


def test_required_and_forbidden_directions():
    preferences, space = make_preferences(TWO, WANTED), make_space(TWO)
    assert derive(preferences, k=2, require=["v"], space=space).layers == (("v", "w2"), ("h", "v"))
    assert derive(preferences, k=1, forbid=["w2"], space=space).layers == (("v",), ("h",))
    genotype = derive(preferences, k=1, require={1: ["v"]}, forbid={0: ["w2"]}, space=space)
    assert genotype.layers == (("v",), ("v",))
    assert genotype.certificate.notes == ("required in layer 1: v", "forbidden in layer 0: w2")


def test_pairs_of_flips_are_chosen_together_or_not_at_all():
    names = [["h", "v", "h_flip", "w2", "v_flip"]]
    preferences = make_preferences(names, [[0.9, 0.2, 0.0, 1.0, 0.8]])
    space = make_space(names)
    assert derive(preferences, k=2, pair_flips=True, space=space).layers == (("v", "v_flip"),)
    assert set(derive(preferences, k=4, pair_flips=True, space=space).layers[0]) == {
        "h",
        "v",
        "h_flip",
        "v_flip",
    }
    assert derive(preferences, k_min=1, k_max=3, pair_flips=True, space=space).layers == (("v", "v_flip"),)
    costs = make_costs(names, [[1, 5, 1, 1, 5]])
    cheap = derive(preferences, k=2, pair_flips=True, costs=costs, max_flops=9, space=space)
    assert cheap.layers == (("h", "h_flip"),)


def test_k_per_layer_as_list_or_for_single_layers():
    preferences, space = make_preferences(TWO, WANTED), make_space(TWO)
    genotype = derive(preferences, per_layer_k=[1, 3], space=space)
    assert genotype.directions_per_layer == (1, 3)
    assert genotype.certificate.k == "per layer: 1 3"
    assert derive(preferences, k=2, per_layer_k={1: 1}, space=space).directions_per_layer == (2, 1)


def test_a_range_of_k_takes_what_is_wanted_and_affordable():
    preferences = make_preferences(TWO, [[0.5, 0.1, -0.2], [0.3, 0.2, 0.1]])
    space, costs = make_space(TWO), make_costs(TWO, FLAT)
    assert derive(preferences, k_min=1, k_max=3, space=space).directions_per_layer == (2, 3)
    genotype = derive(preferences, k_min=1, costs=costs, max_flops=19, space=space)
    assert genotype.layers == (("h",), ("h", "v"))
    assert genotype.certificate.k == "1..3"


@pytest.mark.parametrize(
    ("wishes", "problem"),
    [
        ({}, "how many directions per layer"),
        ({"k": 0}, r"k = 0: layer 0 has 3 candidates \(allowed: 1..3\)"),
        ({"k": 4}, r"k = 4: layer 0 has 3 candidates \(allowed: 1..3\)"),
        ({"k": 2.0}, "not a whole number"),
        ({"k": True}, "not a whole number"),
        ({"k": 2, "k_min": 1}, "either k, or k_min and k_max"),
        ({"k_min": 3, "k_max": 2}, "k_min = 3 is above k_max = 2"),
        ({"per_layer_k": [1]}, "lists 1 layers, the preferences have 2"),
        ({"per_layer_k": {5: 1}, "k": 1}, r"names layer 5 \(allowed: 0..1\)"),
        ({"per_layer_k": {0: 1}}, "how many directions per layer"),
        ({"k": 1, "max_flops": 5}, "max_flops needs costs"),
        ({"k": 1, "require": ["q"]}, "unknown scan direction 'q'"),
        ({"k": 1, "require": ["snake"]}, "require: 'snake' is no candidate of layer 0"),
        ({"k": 1, "forbid": ["snake"]}, "forbid: 'snake' is no candidate of layer 0"),
        ({"k": 1, "forbid": {7: ["h"]}}, "layer 7 does not exist"),
        ({"k": 1, "require": "h"}, "not the single text 'h'"),
        ({"k": 1, "require": ["h", "v"]}, "2 directions are required, but at most 1"),
        ({"k": 1, "require": ["h"], "forbid": ["h"]}, "'h' is both required and forbidden"),
        ({"k": 2, "forbid": ["h", "v"]}, "2 directions are needed, but the wishes leave 1"),
        ({"k": 2, "pair_flips": True}, "2 directions are needed, but the wishes leave 0"),
        ({"k": 1, "pair_flips": True}, "k must be even"),
    ],
)
def test_impossible_wishes_are_one_clear_line(wishes, problem):
    with pytest.raises(InputError, match=problem) as caught:
        derive(make_preferences(TWO, WANTED), space=make_space(TWO), **wishes)
    assert "\n" not in str(caught.value)


def test_costs_and_spaces_of_something_else_are_refused():
    preferences, space = make_preferences(TWO, WANTED), make_space(TWO)
    other = [["h", "v", "w7"]] * 2
    with pytest.raises(InputError, match="different candidates"):
        derive(preferences, k=1, costs=make_costs(other, FLAT), space=space)
    with pytest.raises(InputError, match="costs are of space 'vim8', the preferences of 'made'"):
        derive(preferences, k=1, costs=make_costs(TWO, FLAT, space="vim8"), space=space)
    with pytest.raises(InputError, match="other candidates than the preferences"):
        derive(preferences, k=1, space=make_space(other))
    with pytest.raises(InputError, match="max_latency_ms needs latency_ms in the costs"):
        derive(preferences, k=1, costs=make_costs(TWO, FLAT), max_latency_ms=1, space=space)
    with pytest.raises(InputError, match="max_flops is not a number"):
        derive(preferences, k=1, costs=make_costs(TWO, FLAT), max_flops=math.nan, space=space)


def test_the_space_is_found_by_name():
    space = load_space("vim8")
    scores = np.random.default_rng(0).dirichlet(np.ones(8), 3)
    preferences = make_preferences(space.layer_candidates("micro"), scores)
    preferences = preferences.model_copy(update={"space": "vim8", "variant": "micro"})
    genotype = derive(preferences, k=4)
    assert (genotype.space, genotype.variant, genotype.directions_per_layer) == ("vim8", "micro", (4, 4, 4))
