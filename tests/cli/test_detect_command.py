"""`scansearch train --task detect`: what it leaves, evaluation, a kill, a search, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from support.commands import call
from support.detections import coco_folder
from support.tiny import TINY_SPACE
from support.trainings import tiny_genotype

from scansearch.cli import main
from scansearch.evaluation.evaluate import evaluate
from scansearch.files.strict import dump_yaml
from scansearch.records.weights import load_weights
from scansearch.runs.folder import Run

HEAD = ["--set", "head={heads: small, anchors: 2.0}"]
SHORT = ["--epochs", "1", "--batch-size", "4", "--device", "cpu", "--image-size", "16", "--quiet"]
QUICK = ["--task", "detect", "--data", "shapes:16x16:8", *HEAD, *SHORT]  # eight pictures, one epoch


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of one finished detection."""
    folder = tmp_path_factory.mktemp("detections")
    tiny_genotype().save(folder / "genotype.yaml")
    with pytest.raises(SystemExit) as stop:
        main(["train", str(folder / "genotype.yaml"), *QUICK, "--out", str(folder / "run")])
    assert not stop.value.code
    return folder / "run"


def test_it_leaves_everything_that_it_promises(finished: Path) -> None:
    assert {path.name for path in (finished / "plots").iterdir()} == {
        "training.png", "predictions.png", "samples.png",
    }  # fmt: skip
    result = json.loads((finished / "result.json").read_text())
    (epoch,) = Run.open(finished).metrics("epoch")
    assert result["validation"]["mask_ap"] == pytest.approx(epoch["validation_mask_ap"])
    assert list(result["test"]["per_class"]) == ["disc", "square", "triangle"]
    summary = (finished / "summary.md").read_text()
    assert f"test mask AP {result['test']['mask_ap']:.2f} % of 8 images" in summary
    assert "plots/predictions.png" in summary
    assert "confusion" not in summary
    report = (finished / "report.html").read_text()
    assert "test objects" in report
    predictions = json.loads((finished / "predictions.json").read_text())
    assert predictions
    assert set(predictions[0]) == {"image_id", "category_id", "bbox", "score", "segmentation"}


def test_the_best_weights_are_the_ones_that_were_scored(finished: Path, tmp_path: Path, capsys) -> None:
    result = json.loads((finished / "result.json").read_text())
    record = evaluate(finished, device="cpu", batch_size=3)
    assert record.mask.ap == pytest.approx(result["test"]["mask"]["ap"], abs=1e-6)
    assert record.loss == pytest.approx(result["test"]["loss"], rel=1e-4)
    loaded = load_weights(finished / "best.safetensors")
    assert loaded.task == "detect"
    assert sum(p.numel() for p in loaded.model.parameters()) == result["params"]
    out = tmp_path / "score"
    code, text, err = call(capsys, "evaluate", str(finished), "--device", "cpu", "--out", str(out))
    assert code == 0, err
    assert f"mask AP {record.mask_ap:.2f} %  box AP {record.box_ap:.2f} %" in text
    assert "triangle" in text
    assert json.loads((out / "evaluation.json").read_text())["box_ap"] == record.box_ap
    assert len(json.loads((out / "predictions.json").read_text())) == len(record.found)
    assert not (out / "confusion.png").exists()


def test_it_is_listed_shown_drawn_and_not_compared_with_others(finished: Path, capsys) -> None:
    result = json.loads((finished / "result.json").read_text())
    code, out, _ = call(capsys, "compare", str(finished), "--json")
    assert code == 0
    assert json.loads(out)[0]["score"] == pytest.approx(result["test"]["mask_ap"])
    code, out, _ = call(capsys, "list", str(finished.parent), "--json")
    assert code == 0
    assert json.loads(out)[0]["measure"] == "mask AP"
    code, out, _ = call(capsys, "plot", str(finished), "--out", str(finished.parent / "curves.png"))
    assert code == 0
    assert "validation box AP at the end" in out


def test_a_folder_of_coco_s_form_is_trained_on_and_scored(finished: Path, tmp_path: Path, capsys) -> None:
    root = coco_folder(tmp_path / "coco", {"train": 10, "val": 3})
    genotype, out = str(finished.parent / "genotype.yaml"), tmp_path / "run"
    options = ["--task", "detect", "--data", f"coco:{root}", *HEAD, *SHORT]
    code, _, err = call(capsys, "train", genotype, *options, "--out", str(out))
    assert code == 0, err
    numbers = {one["category_id"] for one in json.loads((out / "predictions.json").read_text())}
    assert numbers <= {3, 7}
    code, _, err = call(capsys, "evaluate", str(finished), "--data", f"coco:{root}", "--device", "cpu")
    assert code == 2
    assert "are not those of the training" in err


def test_a_genotype_is_found_on_objects_and_trained(tmp_path: Path, capsys) -> None:
    (tmp_path / "space.yaml").write_text(dump_yaml(TINY_SPACE))
    run, space = tmp_path / "run", str(tmp_path / "space.yaml")
    code, out, err = call(capsys, "run", "--space", space, "--k", "2", *QUICK, "--out", str(run))
    assert code == 0, err
    assert "% test mask AP" in out
    assert f"scansearch train {run} --task detect" in out
    result = json.loads((run / "result.json").read_text())
    trained = tmp_path / "trained"
    code, _, err = call(capsys, "train", str(run), "--task", "detect", *HEAD, *SHORT, "--out", str(trained))
    assert code == 0, err
    training = json.loads((trained / "result.json").read_text())
    assert (training["params"], training["flops"]) == (result["params"], result["flops"]), "costs were exact"


@pytest.mark.long
@pytest.mark.parametrize("steps", [1, 3, 4])
def test_a_kill_at_any_moment_costs_nothing(steps: int, tmp_path: Path, capsys) -> None:
    tiny_genotype().save(tmp_path / "genotype.yaml")
    command = ["train", str(tmp_path / "genotype.yaml"), *QUICK, "--epochs", "3"]
    assert call(capsys, *command, "--out", str(tmp_path / "whole"))[0] == 0
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "scansearch", *command, "--out", str(folder)], stderr=subprocess.DEVNULL
    )
    metrics = folder / "metrics.jsonl"
    while process.poll() is None and not (
        metrics.exists() and metrics.read_text().count('"kind": "step"') >= steps
    ):
        time.sleep(0.002)
    process.kill()
    process.wait(100)
    code, _, err = call(capsys, "train", "--resume", str(folder), "--quiet")
    assert code == 0, err
    expected, found = (load_file(path / "best.safetensors") for path in (tmp_path / "whole", folder))
    assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())
    whole, resumed = (Run.open(path) for path in (tmp_path / "whole", folder))
    assert resumed.metrics("step") == whole.metrics("step")


def test_what_is_found_on_pictures_is_told_and_drawn(finished: Path, tmp_path: Path, capsys) -> None:
    for place, size in (("a", (40, 24)), ("b", (9, 31))):
        (tmp_path / place).mkdir()
        Image.new("RGB", size, (200, 30, 30)).save(tmp_path / place / "red.png")
    (tmp_path / "b" / "broken.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    code, text, err = call(capsys, "predict", str(finished), str(tmp_path), "--out", str(out), "--json")
    assert code == 1
    assert "1 of 3 images could not be read" in err
    first, broken, second = json.loads(text)
    assert "error" in broken
    for record, size, name in ((first, (40, 24), "red.png"), (second, (9, 31), "red-2.png")):
        assert "objects" in record
        with Image.open(out / name) as picture:
            assert picture.size == size
        assert record["picture"] == str(out / name)
    code, text, _ = call(capsys, "predict", str(finished), str(tmp_path / "a"))
    assert code == 0
    assert "red.png" in text


def test_costs_are_those_of_the_whole_model(finished: Path, tmp_path: Path, capsys) -> None:
    result = json.loads((finished / "result.json").read_text())
    code, out, err = call(capsys, "costs", str(finished), "--json")
    assert code == 0, err
    rows = json.loads(out)
    for measure in ("params", "flops"):
        assert sum(row[measure] for row in rows) == result[measure]
    code, out, _ = call(capsys, "costs", str(finished))
    assert code == 0
    assert "As the released code counts" in out
    for option in (["--latency"], ["--num-classes", "5"]):
        code, _, err = call(capsys, "costs", str(finished), *option)
        assert code == 2
        assert "is of task detect" in err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["export", "{run}", "--format", "standalone", "--out", "{out}"], "task detect: export takes"),
        (["evaluate", "{run}", "--crop", "0.5"], "pictures of task detect are scored whole"),
        (["evaluate", "{run}", "--flip"], "scales and flip average masks"),
        (["evaluate", "{run}", "--data", "digits"], "task detect takes shapes:HxW:count, coco:PATH"),
        (["train", "{genotype}", "--data", "coco:{run}"], "data of task detect"),
        (["train", "{genotype}", "--task", "detect", "--data", "masks:{run}"], "it is data of task segment"),
        (["train", "{genotype}", "--task", "detect", "--data", "coco:{run}"], "coco:PATH needs one of them"),
        (["train", "{genotype}", *QUICK, "--set", "head.heads=huge"], "'standard' or 'small'"),
    ],
)
def test_what_does_not_go_together_is_one_clear_line(
    command, message, finished: Path, tmp_path: Path, capsys
) -> None:
    places = {"run": finished, "genotype": finished.parent / "genotype.yaml", "out": tmp_path / "model.py"}
    code, _, err = call(capsys, *(part if "{heads" in part else part.format(**places) for part in command))
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
