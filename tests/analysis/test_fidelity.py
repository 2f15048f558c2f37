"""Rank fidelity: right figures on known orders, and a ranking of a real run that goes on where it was cut off."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import torch

from scansearch.analysis import fidelity
from scansearch.analysis.fidelity import Sample, agreement, rank_run, sample_genotypes
from scansearch.cli import main
from scansearch.errors import InputError
from scansearch.runs.reopen import open_search

CANDIDATES = (("h", "v", "w2", "v_flip"),) * 2


def made_samples(scores, losses):
    return [
        Sample(((f"w{i}",),), {"made": s}, (loss, loss + 0.2))
        for i, (s, loss) in enumerate(zip(scores, losses, strict=True), 2)
    ]


LOSSES = [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]


@pytest.mark.parametrize(
    ("scores", "tau", "top"),
    [
        ([8, 7, 6, 5, 4, 3, 2, 1], 1.0, 1.0),
        ([1, 2, 3, 4, 5, 6, 7, 8], -1.0, 0.0),
        ([7, 8, 6, 5, 4, 3, 2, 1], 1 - 2 * 1 / 28, 1.0),
        ([8, 1, 7, 6, 5, 4, 3, 2], 1 - 2 * 6 / 28, 0.5),
    ],
)
def test_agreement_of_known_orders(scores, tau, top):
    found = agreement("made", made_samples(scores, LOSSES), 2, resamples=50)
    assert found.tau == pytest.approx(tau)
    assert found.top_k == top
    assert found.top_k_by_chance == 0.25
    assert found.interval[0] <= found.interval[1]
    assert found.interval[0] >= -1 - 1e-9


def test_a_score_that_tells_nothing_apart_has_tau_zero():
    assert agreement("made", made_samples([1.0] * 8, LOSSES), 2, resamples=20).tau == 0.0


def test_samples_differ_and_all_genotypes_are_equally_likely():
    everything = sample_genotypes(CANDIDATES, 2, 36, seed=0)
    assert len(set(everything)) == 36
    assert all(len(names) == 2 for layers in everything for names in layers)
    drawn = Counter(sample_genotypes(CANDIDATES, 1, 1, seed=seed)[0] for seed in range(1600))
    assert len(drawn) == 16
    assert max(abs(count - 100) for count in drawn.values()) < 50
    assert sample_genotypes(CANDIDATES, 2, 5, seed=3) == sample_genotypes(CANDIDATES, 2, 5, seed=3)


def test_more_samples_than_genotypes_are_refused():
    with pytest.raises(InputError, match="there are 16 genotypes with k = 1"):
        sample_genotypes(CANDIDATES, 1, 17, seed=0)
    with pytest.raises(InputError, match="allowed: 1 to 4"):
        sample_genotypes(CANDIDATES, 5, 1, seed=0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from support.tiny import TINY_SPACE

    from scansearch.files.strict import dump_yaml

    folder = tmp_path_factory.mktemp("rank")
    space = folder / "tiny-test.yaml"
    space.write_text(dump_yaml(TINY_SPACE))
    options = ["--k", "2", "--epochs", "1", "--batch-size", "64", "--set", "image_size=8", "--device", "cpu"]
    with pytest.raises(SystemExit) as stop:
        main(["run", "--space", str(space), *options, "--out", str(folder / "run"), "--quiet"])
    assert not stop.value.code
    return folder / "run"


def test_an_opened_search_has_the_weights_that_it_ended_with(run):
    search = open_search(run)
    task, space = search.task, search.task.space
    last = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][-1]
    assert space.name == "tiny-test"
    assert task.score_validation()["loss"] == pytest.approx(last["validation_loss"], rel=1e-6)


def test_an_interrupted_ranking_goes_on_where_it_was(run, monkeypatch):
    real, trained, limit = fidelity.brief_score, [], 3

    def at_most(genotype, *arguments, **options):
        if len(trained) == limit:
            raise KeyboardInterrupt
        trained.append(genotype.layers)
        return real(genotype, *arguments, **options)

    monkeypatch.setattr(fidelity, "brief_score", at_most)
    options = {"samples": 4, "steps": 3, "seed": 5}
    with pytest.raises(KeyboardInterrupt):
        rank_run(run, **options)
    limit = 4  # one more
    found = rank_run(run, **options)
    assert len({sample.layers for sample in found.samples}) == 4
    monkeypatch.setattr(fidelity, "brief_score", None)
    assert rank_run(run, **options) == found
    assert {one.score for one in found.agreements} == {"gates", "perturbation", "inherited"}


def test_test_images_are_not_touched(run, monkeypatch):
    search = open_search(run)
    task = search.task

    def forbidden(index):
        raise AssertionError("a test image was read")

    object.__setattr__(task.data.test, "read", forbidden)
    monkeypatch.setattr(fidelity, "open_search", lambda folder: search)
    assert rank_run(run, samples=3, steps=2, seed=9).samples


def test_scores_are_those_of_the_search(run):
    found = rank_run(run, samples=4, steps=3, seed=5)
    task = open_search(run).task
    for sample in found.samples:
        loss = task.validation_loss(task.subnetwork(sample.layers))
        assert sample.scores["inherited"] == pytest.approx(-loss, rel=1e-6)
        with torch.no_grad():
            gates = [torch.softmax(alpha, 0).tolist() for alpha in task.supernet.alphas]
        expected = sum(
            gates[i][names.index(n)]
            for i, names in enumerate(task.supernet.candidates)
            for n in sample.layers[i]
        )
        assert sample.scores["gates"] == pytest.approx(expected, rel=1e-6)


def test_the_command_shows_every_score_and_writes_what_it_found(run, tmp_path, capsys):
    arguments = ["rank", str(run), "--samples", "4", "--steps", "3", "--seed", "5"]
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--out", str(tmp_path / "rank.json")])
    out, err = capsys.readouterr()
    assert not stop.value.code
    assert {"gates", "perturbation", "inherited"} <= set(out.split())
    assert "4/4" in err
    assert len(json.loads((tmp_path / "rank.json").read_text())["samples"]) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--samples", "2"], "at least 3 samples"),
        (["--steps", "0"], "at least 3 samples, 1 training each and 1 step"),
        (["--k", "9"], "allowed: 1 to 4"),
        (["--samples", "99"], "36"),
    ],
)
def test_bad_input_is_one_line(run, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        main(["rank", str(run), *arguments])
    _, err = capsys.readouterr()
    assert stop.value.code == 2
    assert message in err
    assert err.count("\n") == 1
