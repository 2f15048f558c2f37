"""Genotypes that no search chose: drawn at random, or the same in every layer."""

from __future__ import annotations

from collections import Counter

import pytest
from support.commands import call

from scansearch import baseline_genotype
from scansearch.errors import InputError
from scansearch.records.equal_scans import merge_equal_scans
from scansearch.records.genotype import Genotype
from scansearch.records.space import SearchSpace, load_space


def test_a_seed_draws_every_direction_equally_often_and_always_the_same(tiny_space: SearchSpace) -> None:
    assert baseline_genotype("random:7", "vim8", k=4) == baseline_genotype("random:7", "vim8", k=4)
    drawn = [baseline_genotype(f"random:{seed}", tiny_space, k=2) for seed in range(400)]
    for layer in range(2):
        pairs = Counter(genotype.layers[layer] for genotype in drawn)
        assert len(pairs) == 6  # of four candidates
        assert all(40 <= count <= 95 for count in pairs.values()), (
            pairs
        )  # 67 expected: about three deviations
    assert len({genotype.layers for genotype in drawn}) == 36


def test_scans_that_are_one_are_drawn_once() -> None:
    space = load_space("vmamba8")
    merged = merge_equal_scans(space, "tiny")
    for seed in range(20):
        genotype = baseline_genotype(f"random:{seed}", space, k=4, variant="tiny")
        for chosen, candidates in zip(genotype.layers, merged.layer_candidates("tiny"), strict=True):
            assert set(chosen) <= set(candidates)
            assert len(chosen) == 4


def test_uniform_takes_a_list_a_set_and_directions_that_are_no_candidates(tmp_path) -> None:
    listed = baseline_genotype("uniform:v,h", "vim8")
    assert listed.layers == (("h", "v"),) * 3
    assert listed.space == "vim8"
    assert listed.provenance.note == "baseline uniform:v,h of vim8/micro"
    cross = baseline_genotype("uniform:vmamba4", "vim8", variant="tiny")
    assert cross.layers == (("h", "h_flip", "v", "v_flip"),) * 20
    omni = baseline_genotype("uniform:omni8", "vim8")
    assert omni.layers[0][4:] == ("diag", "diag_flip", "antidiag", "antidiag_flip")
    assert omni.space == "vim8-uniform"
    assert omni.build(num_classes=3).directions == omni.layers
    omni.save(tmp_path / "omni.yaml")
    assert Genotype.load(tmp_path / "omni.yaml") == omni


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("random:1", {}, r"random:1 needs k, the directions per layer \(1 to 8\)"),
        ("random:1", {"k": 9}, "k is 9, but a layer of vim8/micro has 8 different scans"),
        ("random:1", {"k": 0}, "k is 0"),
        ("random:x", {"k": 4}, "the seed must be a whole number"),
        ("random:-1", {"k": 4}, "the seed must be a whole number"),
        ("uniform:h", {"k": 1}, "leave out k"),
        ("uniform:hv", {}, "unknown scan direction 'hv'"),
        ("uniform:", {}, "unknown baseline 'uniform:'"),
        ("best:1", {"k": 4}, r"unknown baseline 'best:1' \(allowed: random:SEED, uniform:"),
        ("random:1", {"k": 4, "variant": "huge"}, "huge"),
    ],
)
def test_other_names_are_one_line(name: str, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        baseline_genotype(name, "vim8", **options)
    assert "\n" not in str(error.value)


def test_train_takes_a_baseline(capsys: pytest.CaptureFixture[str], tmp_path, tiny_space_file: str) -> None:
    options = [
        "--data",
        "digits",
        "--epochs",
        "1",
        "--batch-size",
        "256",
        "--image-size",
        "8",
        "--device",
        "cpu",
    ]
    out = tmp_path / "run"
    code, _, err = call(
        capsys,
        "train",
        "random:3",
        "--space",
        tiny_space_file,
        "--k",
        "2",
        *options,
        "--out",
        str(out),
        "--quiet",
    )
    assert code == 0, err
    genotype = Genotype.load(out / "genotype.yaml")
    assert genotype.layers == baseline_genotype("random:3", tiny_space_file, k=2).layers
    for arguments, message in (
        (["random:3", "--k", "2"], "needs --space"),
        (["localvim_tiny", "--space", "vim8"], "--space belongs to a baseline"),
        (["localvim_tiny", "--k", "3"], "--k belongs to a baseline"),
        (["uniform:nothing", "--space", "vim8"], "unknown scan direction 'nothing'"),
    ):
        code, _, err = call(capsys, "train", *arguments, *options)
        assert code == 2
        assert err.count("\n") == 1
        assert message in err
