"""The probe: verdicts of clear cases, and trainings that go on where they were cut off."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from support.commands import call
from support.tiny import TINY_SPACE

import scansearch
from scansearch.analysis.compare import compare
from scansearch.analysis.probe import Probe
from scansearch.data import load_data
from scansearch.directions import check_directions
from scansearch.errors import InputError
from scansearch.files.strict import dump_yaml, validate
from scansearch.records.space import SearchSpace
from scansearch.runs import probe_run
from scansearch.runs.probe_run import Trained, raster
from scansearch.runs.signals import Interrupted
from scansearch.training.brief import BriefRecipe

OPTIONS = {"k": 1, "genotypes": 3, "steps": 4, "batch_size": 64, "device": "cpu"}


# --- what it says ---


def made(between: float, seeds: float, *, accuracy: float = 80.0, genotypes: int = 8, seed: int = 0) -> Probe:
    """A probe of made losses; the last one is the baseline, far off."""
    generator = np.random.default_rng(seed)
    trained = []
    for number in range(genotypes + 1):
        mean = between * generator.standard_normal() if number < genotypes else 100.0
        losses = tuple((mean + seeds * generator.standard_normal(2)).tolist())
        points = tuple(accuracy - loss if accuracy > 50 else accuracy for loss in losses)
        layers = ((f"w{number + 2}",),)
        trained.append(Trained(layers, number < genotypes, losses, points, (2.0, 4.0)))
    return Probe("made", "made", 1, 100, tuple(trained), 10.0, 1000, 5.0, Path("made"))


@pytest.mark.parametrize(
    ("between", "seeds", "options", "verdict"),
    [
        (1.0, 0.1, {}, "of the differences: a search is worth it"),
        (0.0, 1.0, {"genotypes": 40}, "makes no measurable difference: a search is not worth it"),
        (0.0, 1.0, {"genotypes": 4, "seed": 1}, "more --genotypes or --trainings would tell"),
        (0.6, 1.0, {"genotypes": 100}, "only if its choice is trained several times"),
        (1e-3, 1e-4, {}, "these are so small that a search is not worth it"),
        (1.0, 0.1, {"accuracy": 10.5}, "nothing can be told: after 100 steps no training was better"),
    ],
)
def test_clear_cases_have_the_verdict_that_they_should(between, seeds, options, verdict):
    result = made(between, seeds, **options)
    assert verdict in result.verdict
    assert result.lines()[-1] == f"verdict: {result.verdict}"
    assert "\n" not in result.verdict


def test_the_baseline_is_no_part_of_the_estimates():
    result = made(1.0, 0.1)
    assert result.loss.genotypes == 8
    assert result.loss.between < 3
    assert result.rows()[-1][0].endswith("(all raster)")


def test_the_cost_of_a_search_is_told_in_trainings():
    result = made(1.0, 0.1)
    assert (result.seconds, result.search_seconds) == (54.0, 15.0)
    assert "54 s for 18 trainings of 100 steps" in result.lines()[-2]
    assert "as much as 5.0 of them by FLOPs, so about 15 s" in result.lines()[-2]


def test_learning_means_to_be_above_chance_by_more_than_luck():
    # 10 % of 1000 images: a standard error is 0.95 points
    assert not made(1.0, 0.1, accuracy=12.8).learned
    assert made(1.0, 0.1, accuracy=12.9).learned


def test_all_raster_are_rows_columns_and_their_reverses():
    vim8 = ("h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w7", "w7_flip")
    assert raster((vim8, vim8[::-1]), 4) == (vim8[:4], vim8[:4][::-1])
    assert raster((vim8,), 1) == (("h",),)
    assert raster((("w2", "v", "w7"),), 2) == (("w2", "v"),)
    assert check_directions(raster((vim8,), 6)[0], where="here") == vim8[:6]


# --- what it does ---


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return validate(TINY_SPACE, SearchSpace, source="tiny space")


@pytest.fixture(scope="module")
def whole(space, tmp_path_factory) -> Probe:
    return scansearch.probe("digits", space=space, out=tmp_path_factory.mktemp("probe") / "whole", **OPTIONS)


def figures(result: Probe) -> list[tuple]:
    return [(one.layers, one.drawn, one.losses, one.accuracies) for one in result.trained]


def test_random_genotypes_and_all_raster_are_trained_with_seeds_of_their_own(whole):
    assert [one.drawn for one in whole.trained] == [True, True, True, False]
    assert len({one.layers for one in whole.drawn}) == 3
    assert whole.trained[-1].layers == (("h",), ("h",))
    rows = json.loads((whole.folder / "trainings.json").read_text())
    assert len({row["seed"] for row in rows}) == len({row["loss"] for row in rows}) == 8
    record = json.loads((whole.folder / "probe.json").read_text())
    assert record["loss"]["icc"] == whole.loss.icc
    assert whole.verdict in (whole.folder / "probe.md").read_text()


def test_chance_is_the_share_of_the_most_frequent_class(whole):
    validation = load_data("digits", image_size=8).validation
    labels = [validation.read(index)[1] for index in range(validation.count)]
    assert whole.images == len(labels)
    assert whole.chance == pytest.approx(100 * max(map(labels.count, range(10))) / len(labels))


def test_the_search_costs_what_its_flops_say(whole):
    # 15 epochs of 1257 // 64 steps against 4 steps, and all four candidates against one, in a model of the same width
    least = 15 * (load_data("digits", image_size=8).train.count // 64) / 4
    assert least < whole.search_trainings < 4 * least


def test_the_same_call_finds_everything_and_a_seed_gives_the_same_again(
    whole, space, tmp_path, monkeypatch
) -> None:
    again = scansearch.probe("digits", space=space, out=tmp_path / "again", **OPTIONS)
    assert figures(again) == figures(whole)
    monkeypatch.setattr(probe_run, "brief_score", None)
    assert scansearch.probe("digits", space=space, out=whole.folder, **OPTIONS) == whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_probe_says_how_to_go_on_and_does(whole, space, tmp_path, monkeypatch, number) -> None:
    real, trained = probe_run.brief_score, []

    def interrupted(*arguments, **options):
        if len(trained) == 3:
            os.kill(os.getpid(), number)
        trained.append(options["seed"])
        return real(*arguments, **options)

    monkeypatch.setattr(probe_run, "brief_score", interrupted)
    with pytest.raises(Interrupted, match=r"saved. Continue with: this again$") as caught:
        scansearch.probe("digits", space=space, out=tmp_path / "probe", again="this again", **OPTIONS)
    assert caught.value.signal == number
    before = list(trained)
    trained += [0]  # past the interruption
    result = scansearch.probe("digits", space=space, out=tmp_path / "probe", **OPTIONS)
    assert figures(result) == figures(whole)
    assert len(trained) == 1 + 8
    assert len(before) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 5}, "steps is 4 there and 5 here"),
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"lr": 0.1}, "lr is 0.005 there and 0.1 here"),
    ],
)
def test_a_folder_of_other_settings_is_refused(whole, space, change, message):
    with pytest.raises(InputError, match=f"{message}.; choose another --out"):
        scansearch.probe("digits", space=space, out=whole.folder, **{**OPTIONS, **change})


def test_a_space_that_changed_is_refused(whole, space):
    other = space.model_copy(update={"candidates": ("h", "v", "w2")})
    with pytest.raises(InputError, match="the search space was changed"):
        scansearch.probe("digits", space=other, out=whole.folder, **OPTIONS)


def test_test_images_are_not_touched(space, tmp_path, monkeypatch):
    def forbidden(index):
        raise AssertionError("a test image was read")

    data = load_data("digits", image_size=8)
    object.__setattr__(data.test, "read", forbidden)
    monkeypatch.setattr("scansearch.tasks.classification.load_data", lambda *_, **__: data)
    assert scansearch.probe("digits", space=space, out=tmp_path / "probe", **OPTIONS).trained


def test_scans_that_are_one_are_drawn_once(space, tmp_path):
    """On a grid of 4x4 tokens w4 is h, so three scans are left."""
    other = space.model_copy(update={"candidates": ("h", "v", "w4", "w2")})
    lines: list[str] = []
    result = scansearch.probe("digits", space=other, out=tmp_path / "p", observe=lines.append, **OPTIONS)
    assert {name for one in result.trained for layer in one.layers for name in layer} <= {"h", "v", "w2"}
    assert any("w4 is h (the same scan)" in line for line in lines)
    with pytest.raises(InputError, match="10 samples asked for, but there are 9 genotypes"):
        scansearch.probe("digits", space=other, out=tmp_path / "q", **{**OPTIONS, "genotypes": 10})


def test_every_option_of_the_trainings_arrives(space, tmp_path, monkeypatch):
    recipes = []

    def noted(genotype, data, recipe, *, seed, accelerator):
        recipes.append(recipe)
        return {"loss": float(seed), "accuracy": 50.0}

    monkeypatch.setattr(probe_run, "brief_score", noted)
    chosen = {"steps": 3, "batch_size": 7, "lr": 0.3, "warmup": 0.5, "weight_decay": 9.0, "clip_norm": 0.01}
    result = scansearch.probe("digits", space=space, out=tmp_path / "p", **{**OPTIONS, **chosen}, trainings=3)
    assert {recipe.model_dump_json() for recipe in recipes} == {BriefRecipe(**chosen).model_dump_json()}
    assert len(recipes) == 12
    default = scansearch.probe(
        "digits", space=space, out=tmp_path / "q", **{**OPTIONS, "steps": None}, epochs=2
    )
    assert default.steps == recipes[-1].steps == 2 * (load_data("digits", image_size=8).train.count // 64)
    many = scansearch.probe(
        "digits", space=space, out=tmp_path / "r", **{**OPTIONS, "steps": None}, epochs=99
    )
    assert many.steps == 600
    assert result.search_trainings > 0


# --- the command ---


@pytest.fixture
def arguments(tmp_path, monkeypatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny-test.yaml").write_text(dump_yaml(TINY_SPACE))
    text = "probe --data digits --space tiny-test.yaml --k 1 --genotypes 3 --steps 4 --device cpu"
    return [*text.split(), "--set", "batch_size=64"]


def test_the_command_tells_the_cost_first_and_the_verdict_last(whole, arguments, tmp_path, capsys):
    code, out, err = call(capsys, *arguments)
    assert code == 0, err
    header = err.splitlines()
    assert "3 random genotypes and all raster, 2 trainings each of 4 steps of 64 images" in header[0]
    assert header[1].startswith("all trainings together take at least about ")
    assert [line.split()[0] for line in header[2:]] == [f"{number}/8" for number in range(1, 9)]
    assert out.splitlines()[-1].startswith("verdict: ")
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("probe-tiny-test-")
    code, out, _ = call(capsys, *arguments, "--json")
    (record,) = json.loads(out)
    assert record["verdict"] == whole.verdict
    assert [one["losses"] for one in record["trained"]] == [list(one.losses) for one in whole.trained]
    with pytest.raises(InputError, match="only probes given"):
        compare([folder])


def test_an_interrupted_command_shows_itself(arguments, capsys, monkeypatch):
    monkeypatch.setattr(probe_run, "brief_score", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    code, out, err = call(capsys, *arguments, "--out", "my probe")
    assert (code, out) == (143, "")
    assert err.splitlines()[-1] == (
        "error: interrupted; saved. Continue with: scansearch probe --data digits --space tiny-test.yaml --k 1 "
        "--genotypes 3 --steps 4 --device cpu --out 'my probe' --set batch_size=64"
    )


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("--k 9", "allowed: 1 to 4"),
        ("--genotypes 2", "genotypes: input should be greater than or equal to 3"),
        ("--genotypes 17", "17 samples asked for, but there are 16 genotypes with k = 1"),
        ("--trainings 1", "trainings: input should be greater than or equal to 2"),
        ("--steps 0", "steps: input should be greater than or equal to 1"),
        ("--seed -1", "seed: input should be greater than or equal to 0"),
        ("--set strategy=darts", "unknown key 'strategy'"),
        ("--set lr=.inf", "lr: input should be a finite number"),
        ("--space none", "unknown space 'none'"),
        ("--variant huge", "has no variant 'huge'"),
        ("--image-size x", "--image-size"),
        ("--data nothing", "nothing"),
        ("--out tiny-test.yaml", "cannot be written"),
        ("--out full", "output folder 'full' is not empty; choose another --out"),
    ],
)
def test_bad_input_is_one_line(arguments, capsys, tmp_path, extra, message):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").touch()
    code, out, err = call(capsys, *arguments, *extra.split())
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["settings.json", "trainings.json"])
@pytest.mark.parametrize("text", ["[", '[{"layers": [], "loss": 1}, 2]', "{}"])
def test_damaged_files_are_one_line(whole, arguments, tmp_path, capsys, name, text):
    out = tmp_path / "probe"
    out.mkdir()
    for path in whole.folder.glob("*.json"):
        (out / path.name).write_text(path.read_text())
    (out / name).write_text(text)
    before = sorted(path.name for path in out.iterdir() if path.name != ".lock")
    code, stdout, err = call(capsys, *arguments, "--out", str(out))
    assert (code, stdout) == (2, "")
    assert name in err.splitlines()[-1]
    assert sorted(path.name for path in out.iterdir() if path.name != ".lock") == before


def test_a_training_without_its_figures_is_damaged(whole, space, tmp_path):
    out = tmp_path / "probe"
    out.mkdir()
    (out / "settings.json").write_text((whole.folder / "settings.json").read_text())
    rows = json.loads((whole.folder / "trainings.json").read_text())
    del rows[3]["accuracy"]
    (out / "trainings.json").write_text(json.dumps(rows))
    with pytest.raises(InputError, match="damaged; remove it to train its genotypes again"):
        scansearch.probe("digits", space=space, out=out, **OPTIONS)
