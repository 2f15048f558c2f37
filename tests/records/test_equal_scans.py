"""Candidates that are one scan: known, merged in a new search, chosen once by a derivation."""

from __future__ import annotations

import itertools

import pytest
import torch

from scansearch.costing.flops import space_costs
from scansearch.derivation.derive import derive, pareto_front
from scansearch.errors import InputError
from scansearch.models.build import build_model
from scansearch.records.equal_scans import (
    equal_scans,
    merge_equal_scans,
    pool_preferences,
    restrict_costs,
    same_scans,
)
from scansearch.records.preferences import Preferences
from scansearch.records.provenance import Provenance
from scansearch.records.space import load_space, space_names

EIGHT = ("h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w7", "w7_flip")
SEVENTH = {"w7": "h", "w7_flip": "h_flip"}


@pytest.mark.parametrize(
    ("grid", "padding", "merged"),
    [
        ((8, 8), "skip", {}),
        ((7, 7), "skip", SEVENTH),
        ((7, 7), "zero", SEVENTH),
        ((6, 5), "skip", SEVENTH),
        ((6, 5), "zero", {}),  # a window of 7x7 has rows of zeros there
        ((7, 14), "skip", {}),
        ((2, 2), "skip", {"w2": "h", "w2_flip": "h_flip", **SEVENTH}),
        ((1, 4), "skip", {"v": "h", "v_flip": "h_flip", "w2": "h", "w2_flip": "h_flip", **SEVENTH}),
        ((4, 2), "skip", {"w2": "h", "w2_flip": "h_flip", **SEVENTH}),
        ((1, 1), "skip", dict.fromkeys(EIGHT[1:], "h")),
    ],
)
def test_the_same_scans_are_known(grid, padding, merged) -> None:
    assert same_scans(EIGHT, grid, padding) == merged


@pytest.mark.parametrize("size", [(28, 28), (33, 47), (224, 224)])
def test_the_grids_of_a_space_are_those_of_its_models(size) -> None:
    for name in space_names():
        space = load_space(name)
        for variant, sizes in space.variants.items():
            if sizes.layers > 16:
                continue  # as the smaller ones, and slow to make
            arguments = space.model_arguments(variant, "derived")
            with torch.device("meta"):
                model = build_model(space.family, (("h",),) * sizes.layers, num_classes=2, **arguments)
            assert list(space.grids(variant, size)) == model.mixer_grids(*size), (name, variant)


def test_a_merged_space_keeps_one_name_and_tells_the_others() -> None:
    space = load_space("vmamba8")
    merged = merge_equal_scans(space, "micro", (28, 28))
    assert merged.layer_candidates() == (EIGHT, EIGHT[:6], EIGHT[:6])
    assert merged.merged == ({}, SEVENTH, SEVENTH)
    assert list(merged.variants) == ["micro"]
    assert merged.names_per_layer() == [8, 8, 8]
    assert merge_equal_scans(merged, "micro", (28, 28)) is merged
    assert type(space).model_validate(merged.model_dump(by_alias=True)) == merged
    # on 14x14 tokens and more in every layer all scans differ
    assert merge_equal_scans(space, "micro", (56, 56)) is space
    assert "merged" not in space.to_yaml()


def preferences(rows, candidates=None, **provenance) -> Preferences:
    return Preferences(
        space="vmamba8",
        variant="micro",
        selection="magnitude",
        candidates=candidates or (EIGHT,) * 3,
        scores=tuple(tuple(map(float, row)) for row in rows),
        provenance=Provenance(**provenance),
    )


ROWS = (
    (8, 7, 6, 5, 4, 3, 2, 1),
    (10, 0, 9, 8, 0, 0, 5, 0),  # with w7 added, h has 15
    (0, 3, 9, 8, 0, 0, 1, 4),  # h_flip has 7
)


def test_preferences_of_one_scan_are_added_up() -> None:
    pooled = pool_preferences(preferences(ROWS), equal_scans(load_space("vmamba8"), "micro"))
    assert pooled.candidates == (EIGHT, EIGHT[:6], EIGHT[:6])
    assert pooled.scores[0] == ROWS[0]
    assert pooled.scores[1:] == ((15, 0, 9, 8, 0, 0), (1, 7, 9, 8, 0, 0))


def test_a_derivation_chooses_a_scan_once_unless_asked_otherwise() -> None:
    rows = (ROWS[0], (10, 0, 1, 1, 0, 0, 9, 0), ROWS[2])
    once = derive(preferences(rows), k=2)
    assert once.layers == (("h", "h_flip"), ("h", "v"), ("v", "v_flip"))
    assert "layers 1 to 2, 7x7 tokens: w7 is h, w7_flip is h_flip (the same scan)" in once.certificate.notes
    twice = derive(preferences(rows), k=2, allow_equal=True)
    assert twice.layers[1] == ("h", "w7")
    assert not any("same scan" in note for note in twice.certificate.notes)


def test_costs_follow_and_budgets_hold() -> None:
    space = load_space("vmamba8")
    costs = space_costs(space, "micro", num_classes=10, in_chans=1)
    merged = merge_equal_scans(space, "micro", (28, 28))
    assert restrict_costs(costs, merged.layer_candidates()) == space_costs(merged, num_classes=10, in_chans=1)
    genotype = derive(preferences(ROWS), k=3, costs=costs)
    assert genotype.certificate.spent["flops"] == costs.of(genotype.layers)["flops"]
    front = pareto_front(preferences(ROWS), 4, costs=costs)
    for one, layer in itertools.product(front, (1, 2)):
        assert not set(one.layers[layer]) & {"w7", "w7_flip"}


def test_a_name_that_was_left_out_is_required_as_the_one_that_stands_for_it() -> None:
    genotype = derive(preferences(ROWS), k=2, require={2: ["w7"]})
    assert genotype.layers[2] == ("h", "v")
    assert "h" in derive(preferences(ROWS), k=2, require=["w7", "h"]).layers[1]


def test_a_layer_with_fewer_scans_than_k_gets_them_all() -> None:
    # 4 pixels are grids of 2x2 and 1x1
    treatment = {"image_size": [4, 4]}
    genotype = derive(preferences(ROWS, treatment=treatment), k=4)
    assert [len(layer) for layer in genotype.layers] == [4, 1, 1]
    assert genotype.certificate.k == "per layer: 4 1 1"
    with pytest.raises(InputError, match="layer 0 has 8 candidates"):
        derive(preferences(ROWS, treatment=treatment), k=9)


def test_preferences_of_a_merged_search_are_derived_from_with_the_shipped_space() -> None:
    candidates = (EIGHT, EIGHT[:6], EIGHT[:6])
    rows = (ROWS[0], ROWS[1][:6], ROWS[2][:6])
    assert derive(preferences(rows, candidates), k=4).directions_per_layer == (4, 4, 4)
    wrong = (EIGHT, EIGHT[:5], EIGHT[:6])
    with pytest.raises(InputError, match="has other candidates than the preferences"):
        derive(preferences((rows[0], rows[1][:5], rows[2]), wrong), k=4)
