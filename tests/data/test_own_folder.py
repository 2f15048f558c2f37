"""A folder of one's own from training to scores: what is told, where it may be continued, what is scored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.commands import call
from support.pictures import made_images
from support.tiny import TINY_SPACE
from support.trainings import tiny_genotype

from scansearch.evaluation.evaluate import evaluate
from scansearch.files.strict import dump_yaml
from scansearch.records.weights import load_weights
from scansearch.runs.folder import Run

QUICK = ["--epochs", "1", "--batch-size", "16", "--set", "image_size=8", "--device", "cpu"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures in ``pets`` and a training on them in ``run``, started with a relative path."""
    folder = tmp_path_factory.mktemp("own")
    made_images(folder / "pets", ["cat", "dog", "eel"], 20)
    (folder / "pets" / "notes.txt").touch()
    tiny_genotype().save(folder / "genotype.yaml")
    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.chdir(folder)
        from scansearch.runs.train_run import train

        train(
            "genotype.yaml",
            data="folder:pets",
            out="run",
            image_size=8,
            epochs=1,
            batch_size=16,
            device="cpu",
        )
    return folder


def test_a_run_goes_on_and_is_scored_from_another_folder(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = Run.open(trained / "run")
    assert f"data: folder:{trained / 'pets'}" in (run.folder / "config.yaml").read_text()
    code, _, error = call(capsys, "train", "--resume", str(run.folder))
    assert code == 0, error
    result = json.loads((run.folder / "result.json").read_text())
    again = evaluate(run.folder, device="cpu")
    assert again.images == result["test"]["images"] == 6
    assert again.top1 == result["test"]["top1"]


def test_what_was_read_and_passed_over_is_told_once(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = f"folder:{trained / 'pets'}", str(tmp_path / "run")
    code, _, error = call(
        capsys, "train", str(trained / "genotype.yaml"), "--data", data, *QUICK, "--out", out
    )
    assert code == 0, error
    assert error.count("data: passed over 1 file that is no picture (.txt)") == 1
    assert error.count("data: a tenth of each class's training pictures is held out") == 1


def test_other_pictures_are_scored_all(trained: Path, tmp_path: Path) -> None:
    made_images(tmp_path / "more", ["cat", "dog", "eel"], 20, size=(11, 8))  # of the same names
    scored = evaluate(trained / "run", data=f"folder:{tmp_path / 'more'}", device="cpu")
    assert scored.images == 60
    assert [sum(row) for row in scored.confusion] == [20, 20, 20]
    assert "all 60 pictures are scored" in scored.notes
    # Of the pictures that it was trained on, only those that were held out.
    own = evaluate(trained / "run", data=str(trained / "pets"), device="cpu")
    assert own.images == 6
    shutil.copytree(trained / "pets", tmp_path / "moved")
    assert evaluate(trained / "run", data=f"folder:{tmp_path / 'moved'}", device="cpu").images == 6


def test_a_folder_with_a_test_set_alone_is_scored(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained / "pets", tmp_path / "given" / "Testing")
    data = f"folder:{tmp_path / 'given'}"
    code, out, error = call(capsys, "evaluate", str(trained / "run"), "--data", data, "--device", "cpu")
    assert code == 0, error
    assert "60 test images" in out
    assert "data: Testing/ is read as test" in out


def test_grey_pictures_are_an_option_of_a_training(trained: Path, tmp_path: Path) -> None:
    from scansearch.records.weights import load_weights
    from scansearch.runs.train_run import train

    data = f"folder:{trained / 'pets'}"
    found = train(
        str(trained / "genotype.yaml"),
        data=data,
        out=tmp_path / "run",
        channels=1,
        image_size=8,
        epochs=1,
        batch_size=16,
        device="cpu",
    )
    assert load_weights(found.run.folder / "best.safetensors").model.in_chans == 1
    again = evaluate(found.run.folder, device="cpu")
    assert again.top1 == found.test.top1
    assert again.loss == pytest.approx(found.test.loss, abs=1e-6)


def test_channels_are_an_option_and_go_from_the_search_to_the_training(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(dump_yaml(TINY_SPACE))
    data = ("--data", f"folder:{trained / 'pets'}")
    jobs = {
        "search": ("run", "--space", "tiny.yaml", "--k", "2", "--channels", "1", *data),
        "same": ("train", "search"),
        "other": ("train", "search", "--channels", "4"),
    }
    for out, job in jobs.items():
        code, _, error = call(capsys, *job, *QUICK, "--out", out)
        assert code == 0, error
    for out, channels in {"same": 1, "other": 4}.items():
        model = load_weights(tmp_path / out / "best.safetensors").model
        assert model.patch_embed.proj.weight.shape[1] == model.in_chans == channels
    assert "channels: 1\n" in (tmp_path / "search" / "config.yaml").read_text()
    for job in (("run", "--channels", "2", *data), ("train", "search", "--channels", "2")):
        code, _, error = call(capsys, *job)
        assert (code, error.count("\n"), "channels: input should be 1, 3 or 4" in error) == (2, 1, True)
