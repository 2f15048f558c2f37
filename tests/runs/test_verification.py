"""Verification after a search: the best-ranked genotypes and a random one are trained, and the best is kept."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from support.tiny import TINY_SPACE

from scansearch.cli import main
from scansearch.files.strict import dump_yaml
from scansearch.records.genotype import Genotype
from scansearch.records.space import load_space
from scansearch.runs import verification
from scansearch.runs.finished import FinishedTrainings
from scansearch.runs.folder import Run
from scansearch.runs.search_result import unverified
from scansearch.runs.search_run import resume_search, run_search
from scansearch.runs.verification import Verified, random_genotype, verified_best
from scansearch.searching.config import search_config

OPTIONS = {
    "data": "digits",
    "k": 1,
    "epochs": 2,
    "batch_size": 512,
    "device": "cpu",
    "verify": 2,
    "verify_steps": 5,
}
BEFORE = {**OPTIONS, "verify": 0}


@pytest.fixture(scope="module")
def space(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("space") / "tiny-test.yaml"
    path.write_text(dump_yaml(TINY_SPACE))
    return str(path)


@pytest.fixture(scope="module")
def result(space, tmp_path_factory):
    config = search_config(space=space, **OPTIONS)
    return run_search(config, out=tmp_path_factory.mktemp("verified") / "run")


def test_the_best_ranked_and_a_random_one_are_trained_and_the_best_is_kept(result) -> None:
    assert [one.source for one in result.verified] == ["rank 1", "rank 2", "random"]
    assert len({one.genotype.layers for one in result.verified}) == 3
    best = min(result.verified, key=lambda one: one.loss)
    assert result.genotype.layers == best.genotype.layers
    note = result.genotype.provenance.note
    assert "of 3 brief trainings from scratch: rank 1 " in note
    assert note.endswith(f"this is {best.source}")
    assert Run.open(result.run.folder).genotype == result.genotype
    rows = json.loads((result.run.folder / "verification.json").read_text())
    assert [row["loss"] for row in rows] == [one.loss for one in result.verified]
    assert {row["steps"] for row in rows} == {5}
    summary = (result.run.folder / "summary.md").read_text()
    assert f"{best.source} was best of 3 brief trainings" in summary
    assert "| random |" in summary
    assert "Not tried" not in summary


def test_the_ranks_are_those_of_the_summed_preferences(result) -> None:
    scores = [
        dict(zip(*pair, strict=True))
        for pair in zip(result.preferences.candidates, result.preferences.scores, strict=True)
    ]
    pairs = sorted(
        ((scores[0][a] + scores[1][b], ((a,), (b,))) for a in scores[0] for b in scores[1]), reverse=True
    )
    assert [one.genotype.layers for one in result.verified[:2]] == [layers for _, layers in pairs[:2]]


@pytest.mark.long
def test_without_it_nothing_changes(result, space, tmp_path) -> None:
    plain = run_search(search_config(space=space, **BEFORE), out=tmp_path / "run")
    assert plain.verified == ()
    assert not (tmp_path / "run" / "verification.json").exists()
    assert plain.preferences.scores == result.preferences.scores
    assert plain.genotype.layers == result.verified[0].genotype.layers
    assert plain.genotype.certificate is not None


def test_an_interrupted_verification_goes_on_where_it_was(result, space, tmp_path, monkeypatch) -> None:
    real, trained = verification.brief_score, []

    def once(genotype, *arguments, **options):
        if trained:
            raise KeyboardInterrupt
        trained.append(genotype.layers)
        return real(genotype, *arguments, **options)

    monkeypatch.setattr(verification, "brief_score", once)
    with pytest.raises(KeyboardInterrupt):
        run_search(search_config(space=space, **OPTIONS), out=tmp_path / "run")
    assert not (tmp_path / "run" / "genotype.yaml").exists()

    def others(genotype, *arguments, **options):
        assert genotype.layers not in trained
        return real(genotype, *arguments, **options)

    monkeypatch.setattr(verification, "brief_score", others)
    resumed = resume_search(tmp_path / "run")
    assert [one.loss for one in resumed.verified] == [one.loss for one in result.verified]
    assert resumed.genotype.hash == result.genotype.hash


@pytest.mark.long
def test_a_run_from_before_there_was_a_field_can_go_on(space, tmp_path) -> None:
    folder = tmp_path / "run"
    run_search(search_config(space=space, **{**BEFORE, "epochs": 1}), out=folder)
    path = folder / "fingerprint.json"
    before = json.loads(path.read_text())
    assert before["config"].pop("verify") == 0
    path.write_text(json.dumps(before))
    resume_search(folder)


def test_what_was_not_verified_is_told_with_the_command_that_tells() -> None:
    assert "scansearch probe --data 'folder:/Some/Where else' tells" in unverified("folder:/Some/Where else")


def test_damaged_trainings_are_one_line(tmp_path) -> None:
    layers = '"layers": []'
    for text in (
        "[",
        '[{"loss": 1}]',
        f'[{{{layers}, "loss": "x"}}]',
        "[1]",
        '{"a": 1}',
        f'[{{{layers}, "loss": NaN}}]',
    ):
        path = tmp_path / "verification.json"
        path.write_text(text)
        with pytest.raises(ValueError, match="damaged; remove it to train its genotypes again"):
            FinishedTrainings(path)


def test_a_random_genotype_is_none_of_those_given() -> None:
    space = load_space("vim8-bench")
    drawn = random_genotype(space, "micro", 1, 3, [])
    again = random_genotype(space, "micro", 1, 3, [])
    assert drawn == again
    assert random_genotype(space, "micro", 1, 3, [drawn]).layers != drawn.layers
    whole = random_genotype(space, "micro", 8, 3, [])
    assert random_genotype(space, "micro", 8, 3, [whole]) is None


def test_ties_go_to_the_better_rank() -> None:
    def one(rank, loss) -> Verified:
        genotype = SimpleNamespace(layers=())
        return Verified(genotype, rank, loss, 50.0, 1, 3)  # type: ignore[arg-type]

    assert verified_best([one(None, 1.0), one(2, 1.0), one(1, 1.0)]).rank == 1
    assert verified_best([one(1, 1.0), one(None, 0.5)]).rank is None


def test_the_command_tells_the_cost_before_and_the_verdict_after(space, tmp_path, capsys) -> None:
    out = tmp_path / "run"
    with pytest.raises(SystemExit) as stop:
        main([*f"run --space {space} --k 1 --epochs 1 --verify 1 --set verify_steps=2 --out {out}".split()])
    assert not stop.value.code
    shown = capsys.readouterr()
    assert (
        "verification: up to 2 trainings of 2 steps after the search, each about 2 % of its FLOPs"
        in shown.err
    )
    assert "verification 2/2: random, validation loss " in shown.err
    assert "was best of 2 brief trainings" in shown.out
    assert "2 brief trainings" in Genotype.load(out / "genotype.yaml").provenance.note
