"""`scansearch train --task segment`: what it leaves, evaluation, starting weights, a kill, and what is refused."""

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
from support.segmentations import masked_folder
from support.trainings import tiny_genotype

from scansearch.cli import main
from scansearch.evaluation.evaluate import evaluate
from scansearch.records.weights import load_weights
from scansearch.runs.folder import Run
from scansearch.training.initial import fit_weights, read_initial

QUICK = [
    "--task",
    "segment",
    "--data",
    "shapes:16x16:24",
    "--epochs",
    "2",
    "--batch-size",
    "4",
    "--device",
    "cpu",
]
QUICK += ["--image-size", "16", "--set", "ema={decay: 0.5}"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of one finished segmentation."""
    folder = tmp_path_factory.mktemp("segmentations")
    tiny_genotype().save(folder / "genotype.yaml")
    with pytest.raises(SystemExit) as stop:
        main(["train", str(folder / "genotype.yaml"), *QUICK, "--out", str(folder / "run"), "--quiet"])
    assert not stop.value.code
    return folder / "run"


@pytest.fixture(scope="module")
def classifier(finished: Path) -> Path:
    """The folder of one finished classification of grey digits by the same genotype."""
    out = finished.parent / "classifier"
    digits = [
        "--data",
        "digits",
        "--image-size",
        "8",
        "--epochs",
        "1",
        "--batch-size",
        "256",
        "--device",
        "cpu",
    ]
    with pytest.raises(SystemExit) as stop:
        main(["train", str(finished.parent / "genotype.yaml"), *digits, "--quiet", "--out", str(out)])
    assert not stop.value.code
    return out


def test_it_leaves_everything_that_it_promises(finished: Path) -> None:
    assert {path.name for path in (finished / "plots").iterdir()} == {
        "training.png", "confusion.png", "predictions.png", "samples.png",
    }  # fmt: skip
    run, result = Run.open(finished), json.loads((finished / "result.json").read_text())
    best = max(
        run.metrics("epoch"), key=lambda record: (record["validation_miou"], -record["validation_loss"])
    )
    assert result["best_epoch"] == best["epoch"]
    assert result["validation"]["miou"] == pytest.approx(best["validation_miou"])
    assert list(result["test"]["per_class"]) == ["background", "disc", "square", "triangle"]
    assert sum(map(sum, result["test"]["confusion"])) == 8 * 16 * 16
    summary = (finished / "summary.md").read_text()
    assert f"test mIoU {result['test']['miou']:.2f} % of 8 images" in summary
    assert "| class | test IoU (%) |" in summary
    assert "plots/predictions.png" in summary
    assert "export" not in summary


def test_the_best_weights_are_the_ones_that_were_scored(finished: Path, tmp_path: Path, capsys) -> None:
    result = json.loads((finished / "result.json").read_text())
    record = evaluate(finished, device="cpu", batch_size=3)
    assert record.confusion == tuple(map(tuple, result["test"]["confusion"]))
    assert record.loss == pytest.approx(result["test"]["loss"], rel=1e-5)
    loaded = load_weights(finished / "best.safetensors")
    assert loaded.task == "segment"
    assert sum(p.numel() for p in loaded.model.parameters()) == result["params"]
    code, out, _ = call(
        capsys, "evaluate", str(finished), "--device", "cpu", "--out", str(tmp_path / "score")
    )
    assert code == 0
    assert f"mIoU {record.miou:.2f} %  pixel accuracy {record.accuracy:.2f} %" in out
    assert "triangle" in out
    assert json.loads((tmp_path / "score" / "evaluation.json").read_text())["miou"] == record.miou
    assert (tmp_path / "score" / "confusion.png").is_file()
    code, out, _ = call(capsys, "evaluate", str(finished), "--device", "cpu", "--json", "--split", "val")
    assert json.loads(out)[0]["miou"] == pytest.approx(result["validation"]["miou"])


def test_other_masks_are_scored_by_the_same_classes_only(finished: Path, tmp_path: Path, capsys) -> None:
    masks = {str(i): torch.randint(4, (11, 19), dtype=torch.uint8).numpy() for i in range(3)}
    root = masked_folder(tmp_path, masks)
    arguments = ["evaluate", str(finished), "--data", f"masks:{root}", "--device", "cpu"]
    code, _, err = call(capsys, *arguments)
    assert code == 2
    assert "are not those of the training" in err
    (root / "classes.txt").write_text("background\ndisc\nsquare\ntriangle\n")
    code, out, _ = call(capsys, *arguments)
    assert code == 0
    assert "3 test images" in out
    assert "all 3 pictures are scored" in out


def test_a_killed_training_resumes_and_ends_bit_identical(finished: Path, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "run"
    genotype = str(finished.parent / "genotype.yaml")
    command = [sys.executable, "-m", "scansearch", "train", genotype, *QUICK, "--out", str(folder)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline, metrics = time.monotonic() + 200, folder / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") >= 4):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    assert process.wait(100) == -9
    assert not (folder / "result.json").exists()
    assert call(capsys, "train", "--resume", str(folder), "--quiet")[0] == 0
    whole, resumed = Run.open(finished), Run.open(folder)
    assert resumed.metrics("step") == whole.metrics("step")
    for name in ("best.safetensors", f"checkpoints/{whole.checkpoints()[-1].name}"):
        expected, found = load_file(finished / name), load_file(folder / name)
        assert expected.keys() == found.keys()
        assert all(torch.equal(found[key], tensor) for key, tensor in expected.items()), name


@pytest.mark.long
@pytest.mark.parametrize("steps", [1, 2, 5, 6, 7, 9, 11])
def test_a_kill_at_any_moment_costs_nothing(steps: int, finished: Path, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "run"
    genotype = str(finished.parent / "genotype.yaml")
    command = [sys.executable, "-m", "scansearch", "train", genotype, *QUICK, "--out", str(folder)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    metrics = folder / "metrics.jsonl"
    while process.poll() is None and not (
        metrics.exists() and metrics.read_text().count('"kind": "step"') >= steps
    ):
        time.sleep(0.002)
    process.kill()
    process.wait(100)
    assert call(capsys, "train", "--resume", str(folder), "--quiet")[0] == 0
    expected, found = load_file(finished / "best.safetensors"), load_file(folder / "best.safetensors")
    assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())


def test_the_backbone_starts_from_a_classifier(
    finished: Path, classifier: Path, tmp_path: Path, capsys
) -> None:
    genotype = str(finished.parent / "genotype.yaml")
    start = ["--epochs", "1", "--weights", str(classifier), "--out", str(tmp_path / "run")]
    code, _, err = call(capsys, "train", genotype, *QUICK, *start)
    assert code == 0, err
    assert "position embedding resampled from 4x4 to 8x8 patches" in err
    assert "first convolution adapted from 1 to 3 channels" in err
    assert "the decoder for 4 classes is fresh" in err
    report = json.loads((tmp_path / "run" / "weights.json").read_text())
    backbone = load_weights(tmp_path / "run" / "best.safetensors").model.backbone
    assert report["loaded"] == len(backbone.state_dict())
    assert "from given weights" in (tmp_path / "run" / "summary.md").read_text()


def test_a_classifier_starts_from_the_backbone_of_a_segmentation(finished: Path) -> None:
    genotype = tiny_genotype()
    arguments = {"num_classes": 10, "in_chans": 3, "img_size": (16, 16)}
    model = genotype.build(**arguments)
    start = fit_weights(read_initial(finished), model, genotype, arguments, [str(i) for i in range(10)])
    assert start.given.fresh == ("head.weight", "head.bias")
    trained = load_weights(finished / "best.safetensors").model.backbone.state_dict()
    assert all(torch.equal(value, trained[name]) for name, value in start.given.tensors.items())


def test_masks_are_scored_at_several_scales_and_mirrored(finished: Path, capsys) -> None:
    plain = evaluate(finished, device="cpu")
    assert evaluate(finished, device="cpu", scales=[1.0]).confusion == plain.confusion
    mean = evaluate(finished, device="cpu", scales=[0.75, 1.0, 1.5], flip=True)
    assert mean.loss != pytest.approx(plain.loss, rel=1e-6)
    assert sum(map(sum, mean.confusion)) == sum(map(sum, plain.confusion))
    assert mean.notes[-1] == "the mean of what is seen at the scales 0.75, 1, 1.5, each mirrored too"
    code, out, _ = call(
        capsys, "evaluate", str(finished), "--device", "cpu", "--scales", "0.75,1,1.5", "--flip", "--json"
    )
    assert code == 0
    assert json.loads(out)[0]["miou"] == mean.miou
    for text, message in (("1,one", "expected numbers"), ("0.01", "must lie in"), ("1,1", "different ones")):
        code, _, err = call(capsys, "evaluate", str(finished), "--device", "cpu", "--scales", text)
        assert code == 2
        assert message in err


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
    assert sum(one["share"] for one in first["classes"]) == pytest.approx(1)
    for record, size, name in ((first, (40, 24), "red.png"), (second, (9, 31), "red-2.png")):
        assert "classes" in record
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
        assert "is of task segment" in err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            ["export", "{run}", "--format", "standalone", "--out", "{out}"],
            "task segment: export takes classifiers",
        ),
        (["evaluate", "{run}", "--crop", "0.5"], "pictures of task segment are scored whole"),
        (
            ["evaluate", "{run}", "--data", "digits"],
            "task segment takes shapes:HxW:count, masks:PATH, ade:PATH",
        ),
        (["train", "{genotype}", "--data", "shapes:16x16:8"], "data of task segment"),
        (["train", "{genotype}", "--task", "segment", "--data", "digits"], "has no masks"),
        (["train", "{genotype}", "--task", "count"], "task"),
        (
            ["train", "{genotype}", "--task", "segment", "--data", "shapes:16x16:8", "--balance", "weights"],
            "balance",
        ),
        (
            [
                "train",
                "{genotype}",
                "--task",
                "segment",
                "--data",
                "shapes:16x16:8",
                "--set",
                "head.channels=1",
            ],
            "head",
        ),
    ],
)
def test_what_does_not_go_together_is_one_clear_line(
    command, message, finished: Path, tmp_path: Path, capsys
) -> None:
    places = {"run": finished, "genotype": finished.parent / "genotype.yaml", "out": tmp_path / "model.py"}
    code, _, err = call(capsys, *(part.format(**places) for part in command))
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "model.py").exists()


def test_runs_of_two_tasks_are_not_compared(finished: Path, classifier: Path, capsys) -> None:
    code, out, _ = call(capsys, "compare", str(finished), "--json")
    result = json.loads((finished / "result.json").read_text())
    assert code == 0
    assert json.loads(out)[0]["score"] == pytest.approx(result["test"]["miou"])
    code, _, err = call(capsys, "compare", str(finished), str(classifier))
    assert code == 2
    assert "their scores cannot be compared" in err
