"""Preferences and costs: small strict values that survive their files, and add up exactly."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scansearch.errors import InputError
from scansearch.records.costs import Costs, CostTable
from scansearch.records.preferences import Preferences
from scansearch.records.provenance import Provenance

CANDIDATES = (("h", "v", "w2"), ("h", "v_flip"))
SCORES = ((0.5, 0.3, 0.2), (0.6, 0.4))


def preferences(scores=SCORES, **changes):
    fields = {"space": "vim8", "variant": "micro", "selection": "magnitude", "candidates": CANDIDATES}
    return Preferences(**(fields | {"scores": scores} | changes))


finite = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=50, deadline=None)
@given(st.tuples(st.tuples(finite, finite, finite), st.tuples(finite, finite)))
def test_a_file_gives_back_the_same_preferences_and_the_same_bytes(tmp_path_factory, scores):
    path = tmp_path_factory.getbasetemp() / "preferences.json"
    written = preferences(scores, provenance=Provenance(seeds=(1, 2), note="a"))
    written.save(path)
    again = Preferences.load(path)
    assert again == written
    assert again.to_json().encode() == path.read_bytes()


def test_ranking_keeps_candidate_order_at_ties():
    assert preferences(((0.2, 0.5, 0.2), (0.1, 0.1))).ranked(0) == [("v", 0.5), ("h", 0.2), ("w2", 0.2)]
    assert preferences().layers == 2


def test_the_mean_is_exact_and_joins_seeds():
    seeds = [preferences(provenance=Provenance(seeds=(seed,), runs=(f"r{seed}",))) for seed in range(3)]
    mean = Preferences.mean(seeds)
    assert mean.scores == SCORES  # three times 0.2 divided by 3 is not 0.2 in floating point
    assert mean.provenance.seeds == (0, 1, 2)
    assert mean.provenance.runs == ("r0", "r1", "r2")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("space", "x"),
        ("variant", "x"),
        ("selection", "x"),
        ("candidates", (("h", "v", "w3"), ("h", "v_flip"))),
    ],
)
def test_different_searches_are_not_averaged(field, value):
    with pytest.raises(InputError, match=f"differ in {field}"):
        Preferences.mean([preferences(), preferences(**{field: value})])


GOOD = {
    "schema": 1,
    "space": "vim8",
    "variant": "micro",
    "selection": "magnitude",
    "candidates": [["h", "v"]],
    "scores": [[0.5, 0.5]],
}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"scores": [[0.5]]}, "scores of layer 0: 1 given for 2 candidates"),
        ({"scores": [[0.5, 0.5]] * 2}, "scores has 2 layers, candidates has 1"),
        ({"scores": [[0.5, "x"]]}, "scores.0.1: input should be a valid number, found 'x'"),
        ({"scores": [[0.5, math.nan]]}, "scores of layer 0: every score must be finite"),
        ({"scores": [[0.5, math.inf]]}, "scores of layer 0: every score must be finite"),
        ({"scores": []}, "scores"),
        ({"candidates": [["h", "q"]]}, "candidates of layer 0: unknown scan direction 'q'"),
        ({"candidates": [["h", "h"]]}, "candidates of layer 0: direction 'h' is listed twice"),
        ({"space": 3}, "space: input should be a valid string, found 3"),
        ({"extra": 1}, r"unknown key 'extra' \(allowed: schema, space"),
        ({"schema": 2}, "schema: input should be 1"),
        (
            {"provenance": {"seed": 1}},
            r"unknown key 'provenance.seed' \(did you mean 'seeds'\? allowed: strategy",
        ),
    ],
)
def test_a_wrong_file_is_one_line_naming_file_key_and_what_is_allowed(tmp_path, changes, problem):
    path = tmp_path / "p.json"
    path.write_text(json.dumps(GOOD | changes))
    with pytest.raises(InputError, match=problem) as caught:
        Preferences.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("load", [Preferences.load, Costs.load])
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[1]", "expected keys and values, found list"),
        ('{"schema": 1, "schema": 1}', r"not valid JSON \(key 'schema' is repeated\)"),
        ("[" * 100_000, "not valid JSON"),
        ('{"a": ' + "1" * 6000 + "}", "not valid JSON"),
    ],
)
def test_broken_json_is_one_line_naming_the_file(tmp_path, load, text, problem):
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(InputError, match=problem) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


# --- costs ---


def costs(**changes):
    fields = {
        "image_size": (28, 14),
        "convention": "one multiply-add is one FLOP",
        "candidates": CANDIDATES,
        "flops": CostTable(fixed=100, table=((1, 2, 3), (10, 20))),
        "params": CostTable(fixed=7, table=((1, 1, 1), (2, 2))),
    }
    return Costs(**(fields | changes))


def test_totals_are_fixed_part_plus_what_was_chosen():
    assert costs().of([["h", "w2"], ["v_flip"]]) == {"flops": 124, "params": 11}
    assert costs().of([["w2", "h"], ["v_flip"]]) == {"flops": 124, "params": 11}
    timed = costs(latency_ms=CostTable(fixed=0.5, table=((0.1, 0.2, 0.3), (0.1, 0.2))))
    assert timed.measures == ("flops", "params", "latency_ms")
    assert timed.of([["h", "v", "w2"], ["h"]])["latency_ms"] == 1.2


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=5, max_size=5))
def test_the_expected_cost_is_the_mean_over_independent_choices(gates):
    layers = [gates[:3], gates[3:]]
    total = 0.0
    for pattern in range(32):
        taken = [bool(pattern >> bit & 1) for bit in range(5)]
        chance = math.prod(p if t else 1 - p for p, t in zip(gates, taken, strict=True))
        names = [[n for n, t in zip(CANDIDATES[0], taken[:3], strict=True) if t]]
        names.append([n for n, t in zip(CANDIDATES[1], taken[3:], strict=True) if t])
        total += chance * costs().of(names)["flops"]
    assert costs().expected(layers)["flops"] == pytest.approx(total)
    assert costs().expected([np.array(row) for row in layers]) == costs().expected(layers)


@pytest.mark.parametrize(
    ("layers", "problem"),
    [
        ([["h"]], "1 layers given, but these costs have 2"),
        ([["h"], ["v"]], r"layer 1: the costs do not know 'v' \(allowed: h, v_flip\)"),
        ([["h", "h"], ["h"]], "layer 0: a direction is listed twice"),
    ],
)
def test_choices_that_do_not_fit_are_refused(layers, problem):
    with pytest.raises(InputError, match=problem):
        costs().of(layers)
    with pytest.raises(InputError, match="one number per layer and candidate"):
        costs().expected([[1, 1, 1]])


def test_costs_survive_their_file(tmp_path):
    written = costs(latency_ms=CostTable(fixed=0.1, table=((0.1, 0.2, 1 / 3), (1e-9, 2))), device="cpu")
    written = written.model_copy(update={"latency_noise_ms": ((0.1, 0.1, 0.1), (0.2, 0.2))})
    written.save(tmp_path / "costs.json")
    again = Costs.load(tmp_path / "costs.json")
    assert again == written
    assert again.to_json() == written.to_json()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"flops": CostTable(fixed=1, table=((1, 2, 3),))},
            "flops: needs one figure per layer and candidate",
        ),
        ({"params": CostTable(fixed=1, table=((1, 2), (1, 2)))}, "params: needs one figure per layer"),
        ({"params": CostTable(fixed=1, table=((1, 2, -1), (1, 2)))}, "params: every figure must be finite"),
        ({"latency_noise_ms": ((1, 1, 1), (1, 1))}, "given without latency_ms"),
        ({"image_size": (28,)}, "image_size"),
        ({"image_size": (0, 28)}, "image_size: height and width must be at least 1"),
        ({"candidates": (("h", "v", "w1"), ("h", "v"))}, "candidates of layer 0: unknown scan direction"),
    ],
)
def test_impossible_costs_are_refused(changes, problem):
    with pytest.raises(ValueError, match=problem):
        costs(**changes)


def test_latencies_within_their_noise_are_levelled_to_their_mean():
    table = CostTable(fixed=1, table=((1.0, 3.0, 1.1), (1.0, 2.0)))
    assert costs(latency_ms=table).levelled_latency() == table
    noisy = costs(latency_ms=table, latency_noise_ms=((0.1, 0.1, 0.1), (0.1, 0.1)))
    assert noisy.levelled_latency().table == ((1.05, 3.0, 1.05), (1.0, 2.0))
    assert costs().levelled_latency() is None


def test_a_chain_of_small_differences_is_not_one_group():
    # 1.0, 1.1, 1.2: neighbours are within the noise of 0.14, the ends are not
    table = CostTable(fixed=0, table=((1.2, 1.0, 1.1), (1.0, 2.0)))
    noisy = costs(latency_ms=table, latency_noise_ms=((0.1,) * 3, (0.1,) * 2))
    assert noisy.levelled_latency().table[0] == pytest.approx((1.2, 1.05, 1.05))
