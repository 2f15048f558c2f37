"""Evolution scores no genotype twice and none outside the budgets, alone or in company, and finds the best."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scansearch.cli import main
from scansearch.errors import InputError, RunStopped
from scansearch.files.strict import dump_yaml
from scansearch.records.costs import Costs, CostTable
from scansearch.records.genotype import Genotype
from scansearch.runs.folder import Run
from scansearch.runs.reopen import open_search
from scansearch.searching.evolution import PROPOSALS, Evolution, Scored, evolve
from scansearch.searching.genotypes import Genotypes

CANDIDATES = (("h", "v", "w2", "v_flip"), ("h", "v", "w2", "v_flip"))
BOTH = pytest.mark.parametrize("proposals", PROPOSALS)
WORTH = {"h": 0.1, "v": 1.0, "w2": -0.5, "v_flip": 0.6}


def made_costs(candidates=CANDIDATES):
    """The n-th candidate costs n + 1 in every layer."""
    rows = tuple(tuple(float(place + 1) for place in range(len(names))) for names in candidates)
    table = CostTable(fixed=10.0, table=rows)
    return Costs(image_size=(8, 8), convention="made", candidates=candidates, flops=table, params=table)


class Made:
    """A loss whose best genotype is known; it keeps what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, layers):
        self.asked.append(layers)
        # The first layer counts double, and directions that occur in both layers are worth less.
        gain = sum((2 - i) * WORTH[name] for i, layer in enumerate(layers) for name in layer)
        return 5.0 - gain + 0.3 * len(set(layers[0]) & set(layers[1]))


def all_genotypes(sizes):
    subsets = [s for size in sizes for s in itertools.combinations(CANDIDATES[0], size)]
    return list(itertools.product(subsets, subsets))


@BOTH
def test_a_small_space_is_scored_whole_and_once(proposals):
    loss = Made()
    found = evolve(CANDIDATES, loss, k=2, evaluations=1000, proposals=proposals)
    assert len(loss.asked) == len(set(loss.asked)) == 36
    assert {one.layers for one in found.scored} == set(all_genotypes([2]))
    best = min(all_genotypes([2]), key=Made())
    assert found.best.layers == best


@BOTH
def test_the_first_proposals_cover_every_candidate(proposals):
    loss = Made()
    evolve(CANDIDATES, loss, k=1, evaluations=4, proposals=proposals)
    for layer in range(2):
        assert {names for genotype in loss.asked for names in genotype[layer]} == set(CANDIDATES[layer])


@BOTH
def test_it_finds_better_genotypes_than_as_many_random_ones(proposals):
    names = tuple(f"w{size}" for size in range(2, 18))
    space = (names,) * 4
    worth = np.random.default_rng(0).normal(size=(4, 16))

    def loss(layers):
        return -sum(worth[i, names.index(name)] for i, layer in enumerate(layers) for name in layer)

    found = evolve(space, loss, k=4, evaluations=60, proposals=proposals, seed=1)
    generator = np.random.default_rng(1)
    chance = min(
        loss([[names[i] for i in generator.permutation(16)[:4]] for _ in range(4)]) for _ in range(60)
    )
    assert found.best.loss < chance
    late = np.mean([one.loss for one in found.scored[-20:]])
    early = np.mean([one.loss for one in found.scored[:20]])
    assert late < early


@settings(max_examples=15, deadline=None)
@given(
    limit=st.integers(14, 40),
    seed=st.integers(0, 3),
    sizes=st.sampled_from([(1, 2), (1, 4), (2, 3)]),
    proposals=st.sampled_from(PROPOSALS),
)
def test_a_genotype_above_a_budget_is_never_scored(limit, seed, sizes, proposals):
    costs, loss = made_costs(), Made()
    low, high = sizes
    options = {
        "k_min": low,
        "k_max": high,
        "costs": costs,
        "budgets": {"flops": limit},
        "proposals": proposals,
    }
    feasible = [g for g in all_genotypes(range(low, high + 1)) if costs.of(g)["flops"] <= limit]
    if not feasible:
        with pytest.raises(InputError, match="no genotype within the budgets"):
            evolve(CANDIDATES, loss, evaluations=12, seed=seed, **options)
        assert not loss.asked
        return
    found = evolve(CANDIDATES, loss, evaluations=12, seed=seed, **options)
    assert set(loss.asked) <= set(feasible)
    assert len(loss.asked) == len(set(loss.asked)) == min(12, len(feasible))
    assert all(one.cost == costs.of(one.layers)["flops"] <= limit for one in found.scored)


def test_the_front_is_what_nothing_beats():
    found = evolve(CANDIDATES, Made(), k_min=1, costs=made_costs(), evaluations=60)
    front = {one.layers for one in found.front}
    for one in found.scored:
        beaten = any(
            other.loss <= one.loss
            and other.cost <= one.cost
            and (other.loss, other.cost) != (one.loss, one.cost)
            for other in found.scored
        )
        if one.layers in front:
            assert not beaten
        else:
            equal = any((o.loss, o.cost) == (one.loss, one.cost) for o in found.front)
            assert beaten or equal
    assert [one.cost for one in found.front] == sorted(one.cost for one in found.front)
    assert found.best.loss == min(one.loss for one in found.scored)


def test_marginal_scores_recover_an_additive_loss():
    scored = tuple(Scored(g, -sum(WORTH[n] for layer in g for n in layer), 0.0) for g in all_genotypes([2]))
    scores = Evolution(CANDIDATES, None, scored).marginal_scores(ridge=1e-6)
    for layer in scores:
        expected = np.array([WORTH[name] for name in CANDIDATES[0]])
        np.testing.assert_allclose(np.diff(layer), np.diff(expected), atol=1e-4)


def test_a_candidate_that_was_never_scored_gets_the_mean():
    scored = (Scored((("h",), ("h",)), 1.0, 0.0), Scored((("v",), ("v",)), 2.0, 0.0))
    scores = Evolution(CANDIDATES, None, scored).marginal_scores()
    assert scores[0][0] > 0.1
    assert scores[0][1] < -0.1
    assert scores[0][2:] == pytest.approx([0.0, 0.0])


@BOTH
def test_one_process_that_continues_from_its_journal_goes_on_as_if_it_had_not_stopped(proposals, tmp_path):
    whole, first, rest = Made(), Made(), Made()
    options = {"k": 2, "seed": 3, "proposals": proposals}
    complete = evolve(CANDIDATES, whole, evaluations=20, **options)
    evolve(CANDIDATES, first, evaluations=9, journal=tmp_path / "journal", **options)
    resumed = evolve(CANDIDATES, rest, evaluations=20, journal=tmp_path / "journal", **options)
    assert first.asked + rest.asked == whole.asked
    assert resumed.scored == complete.scored


def test_searches_with_other_proposals_or_another_prior_share_a_journal_and_do_not_mix(tmp_path):
    ways = [{}, {"proposals": "nsga2"}, {"prior": [[1.0, 0.0, 0.0, 0.0]] * 2}]
    for options in ways:
        loss = Made()
        found = evolve(CANDIDATES, loss, k=2, evaluations=7, journal=tmp_path / "journal", **options)
        assert [one.layers for one in found.scored] == loss.asked
        assert len(loss.asked) == 7
    for options in ways:
        found = evolve(CANDIDATES, Made(), k=2, evaluations=7, journal=tmp_path / "journal", **options)
        assert len(found.scored) == 7


def test_searches_of_before_go_on_with_nsga2():
    """The name in the journal of a search that was started when there were no other proposals."""
    genotypes = Genotypes(CANDIDATES, 2, 1, None, made_costs(), "flops", {"flops": 30.0})
    assert genotypes.name(5) == "evolution-812e5e0b97a2987e"


def test_expected_losses_are_nearer_to_the_truth_than_noisy_ones():
    generator = np.random.default_rng(0)
    truth = [-sum(WORTH[n] for layer in g for n in layer) for g in all_genotypes([2])]
    noisy = np.array(truth) + generator.normal(size=len(truth))
    pairs = zip(all_genotypes([2]), noisy.tolist(), strict=True)
    found = Evolution(CANDIDATES, None, tuple(Scored(layers, loss, 0.0) for layers, loss in pairs))
    assert np.std(found.expected_losses() - np.array(truth)) < 0.7 * np.std(noisy - truth)


def test_a_prior_that_is_right_saves_evaluations():
    names = ("h", "v", "w2", "w7", "h_flip", "v_flip", "w2_flip", "w7_flip")
    gaps = []
    for seed in range(6):
        worth = np.random.default_rng(seed).normal(size=(6, 8))

        def loss(layers, worth=worth):
            return -sum(worth[i, names.index(name)] for i, layer in enumerate(layers) for name in layer)

        plain = evolve((names,) * 6, loss, k=1, evaluations=14, seed=seed)
        told = evolve((names,) * 6, loss, k=1, evaluations=14, seed=seed, prior=(3 * worth).tolist())
        gaps.append(plain.best.loss - told.best.loss)
        assert told.best.loss < -worth.max(1).sum() + 1e-9
    assert np.mean(gaps) > 0.3


@pytest.mark.long
def test_the_claim_of_a_process_that_died_is_free_again(tmp_path):
    journal = tmp_path / "journal"
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=_die_while_scoring, args=(str(journal),))
    child.start()
    child.join(60)
    assert child.exitcode == 7
    loss = Made()
    evolve(CANDIDATES, loss, k=1, evaluations=16, journal=journal)
    assert len(set(loss.asked)) == 16


def _die_while_scoring(journal):
    evolve(CANDIDATES, lambda layers: os._exit(7), k=1, evaluations=16, journal=journal)


def _work(journal, out):
    asked = []

    def loss(layers):
        time.sleep(0.1)  # so long that the other has begun before all are scored
        asked.append(layers)
        return Made()(layers)

    evolve(CANDIDATES, loss, k=2, evaluations=30, journal=journal)
    with open(out, "w", encoding="utf-8") as file:
        json.dump(asked, file)


def test_processes_that_share_a_journal_score_nothing_twice(tmp_path):
    context = multiprocessing.get_context("spawn")
    outs = [tmp_path / f"{i}.json" for i in range(2)]
    children = [context.Process(target=_work, args=(str(tmp_path / "journal"), str(out))) for out in outs]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
        assert child.exitcode == 0
    asked = [json.dumps(layers) for out in outs for layers in json.loads(out.read_text())]
    assert len(asked) == len(set(asked)) == 30
    assert sum(bool(json.loads(out.read_text())) for out in outs) == 2, "only one process worked"
    found = evolve(CANDIDATES, Made(), k=2, evaluations=30, journal=tmp_path / "journal")
    assert {json.dumps(one.layers) for one in found.scored} == set(asked)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 5}, "allowed are 1 to 4"),
        ({"k": 0}, "allowed are 1 to 4"),
        ({"k_min": 3, "k_max": 2}, "3 to 2 directions"),
        ({"k": 2, "k_max": 3}, "either k, or"),
        ({"k": 2, "budgets": {"flops": 1.0}}, "budgets need costs"),
        ({"k": 2, "costs": made_costs(), "measure": "latency_ms"}, "'latency_ms' is not in the costs"),
        ({"k": 2, "costs": made_costs(CANDIDATES[:1])}, "other candidates"),
        ({"k": 2, "evaluations": 0}, "at least 1 evaluation"),
        ({"k": 2, "proposals": "nsga2", "population": 1}, "population of 2"),
        ({"k": 2, "population": 4}, "goes with proposals 'nsga2' only, not 'model'"),
        ({"k": 2, "proposals": "tpe"}, "unknown proposals 'tpe' .allowed: model, nsga2."),
        ({"k": 2, "proposals": "nsga2", "prior": [[0.0] * 4] * 2}, "goes with proposals 'model' only"),
        ({"k": 2, "prior": [[0.0] * 4]}, "one score per layer and candidate"),
        ({"k": 2, "prior": [[0.0] * 4, [0.0, 1.0, float("nan"), 2.0]]}, "must be finite"),
    ],
)
def test_wishes_that_cannot_be_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        evolve(CANDIDATES, Made(), **options)


def test_a_loss_that_is_not_finite_stops_with_one_line():
    with pytest.raises(RunStopped, match="is nan"):
        evolve(CANDIDATES, lambda layers: float("nan"), k=1, evaluations=4)


def test_a_genotype_whose_scoring_stopped_is_not_claimed_for_ever(tmp_path):
    def stopping(layers):
        raise RunStopped("made so")

    options = {"k": 1, "evaluations": 16, "journal": tmp_path / "journal"}
    with pytest.raises(RunStopped, match="made so"):
        evolve(CANDIDATES, stopping, **options)
    assert len(evolve(CANDIDATES, lambda layers: 1.0, **options).scored) == 16


# --- as a selection of a run, and as a command ---

QUICK = [
    "--k",
    "2",
    "--epochs",
    "1",
    "--batch-size",
    "64",
    "--device",
    "cpu",
    "--quiet",
    "--strategy",
    "spos",
]
QUICK += ["--set", "image_size=8", "--set", "evolution.evaluations=6"]


def call(*arguments):
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert not stop.value.code


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from support.tiny import TINY_SPACE

    folder = tmp_path_factory.mktemp("evolved")
    (folder / "tiny-test.yaml").write_text(dump_yaml(TINY_SPACE))
    call("run", "--space", str(folder / "tiny-test.yaml"), *QUICK, "--out", str(folder / "run"))
    return folder / "run"


def test_a_run_that_selects_by_evolution_ends_with_the_best_sub_network(run):
    told = json.loads((run / "evolution.json").read_text())
    assert len(told["scored"]) == 6
    best = min(told["scored"], key=lambda one: one["loss"])
    finished = Run.open(run)
    assert [list(names) for names in finished.genotype.layers] == best["layers"]
    assert finished.genotype.provenance.selection == finished.preferences.selection == "evolution"
    assert "6 sub-networks" in finished.genotype.provenance.note
    task = open_search(run).task
    loss = task.validation_loss(task.subnetwork(best["layers"]))
    assert best["loss"] == pytest.approx(loss, rel=1e-6)


def test_the_command_writes_the_front_and_goes_on_in_its_journal(run, tmp_path, capsys):
    options = ["--k-min", "1", "--k-max", "3"]
    call("evolve", str(run), *options, "--evaluations", "8", "--out", str(tmp_path / "g.yaml"))
    out, _ = capsys.readouterr()
    assert "8 sub-networks scored" in out
    files = sorted(tmp_path.glob("g-*.yaml"))
    assert f"{len(files)} on the front" in out
    costs = Costs.load(run / "costs.json")
    spent = [costs.of(Genotype.load(file).layers)["flops"] for file in files]
    assert spent == sorted(set(spent))
    call("evolve", str(run), *options, "--evaluations", "8")
    assert "8 sub-networks scored" in capsys.readouterr()[0]
    limit = min(costs.of([[a], [b]])["flops"] for a in CANDIDATES[0] for b in CANDIDATES[0])
    call("evolve", str(run), "--k-min", "1", "--max-flops", str(limit), "--evaluations", "3")
    assert "3 sub-networks scored, 1 on the front" in capsys.readouterr()[0]


def test_the_journal_names_no_machine(tmp_path, monkeypatch):
    import socket

    monkeypatch.setattr(socket, "gethostname", lambda: "the-name-of-this-machine")
    journal = tmp_path / "evolution.journal"
    evolve([["h", "v"]] * 2, lambda layers: 1.0, k=1, evaluations=2, journal=journal)
    assert "process" in journal.read_text()
    assert "the-name-of-this-machine" not in journal.read_text()
