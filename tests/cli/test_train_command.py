"""`scansearch train`: what it leaves, that a kill at any step costs nothing, and how it takes bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.commands import call
from support.trainings import tiny_genotype

from scansearch.cli import main
from scansearch.evaluation.evaluate import evaluate
from scansearch.records.lookup import find_genotype
from scansearch.records.weights import load_weights
from scansearch.runs.folder import Run
from scansearch.runs.train_run import train

QUICK = [
    "--data",
    "digits",
    "--epochs",
    "2",
    "--batch-size",
    "64",
    "--set",
    "image_size=8",
    "--device",
    "cpu",
]
QUICK += ["--set", "ema={decay: 0.9}"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of one finished training of a tiny genotype."""
    folder = tmp_path_factory.mktemp("trainings")
    tiny_genotype().save(folder / "genotype.yaml")
    with pytest.raises(SystemExit) as stop:
        main(["train", str(folder / "genotype.yaml"), *QUICK, "--out", str(folder / "run"), "--quiet"])
    assert not stop.value.code
    return folder / "run"


def test_train_leaves_everything_that_it_promises(finished):
    present = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    assert present >= {
        "config.yaml", "environment.json", "metrics.jsonl", "genotype.yaml", "best.safetensors", "result.json",
        "summary.md", "plots/training.png", "plots/confusion.png",
    }  # fmt: skip
    assert [name for name in present if "/." in f"/{name}"] == [".lock"], "temporary files are left"
    assert len(list((finished / "checkpoints").iterdir())) == 2
    run = Run.open(finished)
    assert [record["step"] for record in run.metrics("step")] == list(range(1, 2 * (1257 // 64) + 1))
    result = json.loads((finished / "result.json").read_text())
    best = max(run.metrics("epoch"), key=lambda record: record["validation_accuracy"])
    assert result["validation"]["top1"] == pytest.approx(best["validation_accuracy"])
    assert result["best_epoch"] == best["epoch"]
    assert f"test accuracy {result['test']['top1']:.2f} %" in (finished / "summary.md").read_text()


def test_the_best_weights_are_the_ones_that_were_scored(finished):
    result = json.loads((finished / "result.json").read_text())
    found = evaluate(finished, device="cpu", batch_size=77)
    assert found.top1 == pytest.approx(result["test"]["top1"])
    assert found.loss == pytest.approx(result["test"]["loss"], rel=1e-5)
    assert found.image_size == (8, 8)
    loaded = load_weights(finished / "best.safetensors")
    assert loaded.genotype.hash == Run.open(finished).genotype.hash
    assert loaded.arguments["num_classes"] == 10
    assert 0.2 < loaded.treatment.mean[0] < loaded.treatment.std[0] < 0.5
    assert loaded.treatment.classes == tuple("0123456789")
    assert sum(p.numel() for p in loaded.model.parameters()) == result["params"]


@pytest.mark.parametrize(
    ("number", "code"),
    [pytest.param(signal.SIGINT, 130, marks=pytest.mark.long), (signal.SIGKILL, -9)],
)
def test_an_interrupted_training_resumes_in_mid_epoch_and_ends_bit_identical(
    number, code, finished, tmp_path, capsys
):
    folder = tmp_path / "run"
    genotype = str(finished.parent / "genotype.yaml")
    arguments = [sys.executable, "-m", "scansearch", "train", genotype, *QUICK, "--out", str(folder)]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    metrics = folder / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") >= 8):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    assert process.wait(100) == code
    if number == signal.SIGINT:
        last = process.stderr.read().strip().splitlines()[-1]
        assert last == f"error: interrupted; saved. Continue with: scansearch train --resume {folder}"
    saved = [int(path.stem.split("-")[1]) for path in Run.open(folder).checkpoints()]
    assert saved[-1] % (1257 // 64), "the last checkpoint is in the middle of an epoch"
    assert not (folder / "result.json").exists()
    assert call(capsys, "train", "--resume", str(folder), "--quiet")[0] == 0
    whole, resumed = Run.open(finished), Run.open(folder)
    assert resumed.metrics("step") == whole.metrics("step")
    for name in ("best.safetensors", f"checkpoints/{whole.checkpoints()[-1].name}"):
        expected, found = load_file(finished / name), load_file(folder / name)
        assert expected.keys() == found.keys()
        assert all(torch.equal(found[key], tensor) for key, tensor in expected.items()), name


def test_what_train_is_given_goes_before_the_recipe(finished, tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    model = finished.parent / "genotype.yaml"
    recipe.write_text(
        f"schema: 1\nmodel: {model}\ndata: digits\nepochs: 9\nimage_size: 8\nbatch_size: 256\nseed: 5\n"
    )
    out = tmp_path / "run"
    arguments = [
        "--config",
        str(recipe),
        "--epochs",
        "1",
        "--set",
        "optimizer.lr=0.001",
        "--out",
        str(out),
        "--quiet",
    ]
    assert call(capsys, "train", *arguments)[0] == 0
    text = (out / "config.yaml").read_text()
    assert "epochs: 1\n" in text
    assert "lr: 0.001\n" in text
    assert "seed: 5\n" in text
    recipe.write_text(f"schema: 1\nmodel: {model}\nepoch: 9\n")
    code, _, err = call(capsys, "train", "--config", str(recipe))
    assert code == 2
    assert str(recipe) in err
    assert "unknown key 'epoch'" in err


BAD_COMMANDS = {
    "nothing named": ([], "name what to train"),
    "unknown model": (["localvim_huge"], "localvim_tiny"),
    "unknown data": (["GENOTYPE", "--data", "mnist"], "allowed: digits"),
    "no data": (["localvim_tiny"], "give --data"),
    "setting of a wrong type": (["GENOTYPE", "--set", "epochs=ten"], "found 'ten'"),
    "unknown device": (["GENOTYPE", "--data", "digits", "--device", "tpu"], "allowed: auto, cpu, cuda"),
    "missing recipe": (["GENOTYPE", "--config", "none.yaml"], "none.yaml"),
    "folder without genotype": (["."], "holds no genotype.yaml"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_COMMANDS.values(), ids=BAD_COMMANDS.keys())
def test_bad_input_to_train_is_one_clear_line(arguments, message, finished, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [str(finished.parent / "genotype.yaml") if a == "GENOTYPE" else a for a in arguments]
    code, out, err = call(capsys, "train", *arguments)
    assert code == 2
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not out
    assert not list(tmp_path.iterdir())


def test_resume_takes_no_other_option_and_needs_a_training(finished, capsys):
    code, _, err = call(capsys, "train", "--resume", str(finished), "--epochs", "3")
    assert (code, "leave out --epochs" in err) == (2, True)
    code, _, err = call(capsys, "train", "--resume", str(finished.parent))
    assert (code, "holds no run" in err) == (2, True)


def test_the_options_of_the_other_commands_are_these():
    """An option that appears or disappears is a decision: change this list with it."""
    from typer.main import get_command

    from scansearch.cli import app

    commands = get_command(app).commands
    found = {
        name: {option for parameter in commands[name].params for option in parameter.opts}
        for name in commands
        if name not in ("run", "bench", "version")
    }
    assert found == {
        "train": {
            "--track", "model", "--space", "--variant", "--k", "--data",
            "--image-size", "--channels", "--augment", "--balance", "--weights", "--config",
            "--epochs", "--batch-size", "--seed", "--out", "--device", "--set", "--resume", "--quiet", "--task",
        },
        "evaluate": {
            "subject", "--data", "--split", "--image-size", "--crop", "--batch-size", "--device", "--mixed-precision",
            "--workers", "--scales", "--flip", "--out", "--json",
        },
        "predict": {"model", "images", "--top", "--device", "--out", "--json"},
        "compare": {"runs", "--out", "--latency", "--device", "--json"},
        "costs": {
            "subject", "--image-size", "--num-classes", "--variant", "--latency", "--device", "--batch-size", "--fresh",
            "--out", "--json",
        },
        "rank": {"run", "--samples", "--k", "--steps", "--trainings", "--seed", "--out", "--json"},
        "probe": {
            "--data", "--space", "--variant", "--k", "--genotypes", "--trainings", "--steps", "--image-size",
            "--channels", "--augment", "--seed", "--device", "--out", "--set", "--json",
        },
        "show": {"run", "--json"},
        "list": {"folder", "--json"},
        "doctor": {"--json"},
        "published": {"--task", "--out", "--json"},
        "plot": {"what", "--kind", "--image", "--layer", "--grid", "--out"},
        "evolve": {
            "run", "--k", "--k-min", "--k-max", "--max-flops", "--max-params", "--measure", "--evaluations",
            "--proposals", "--population", "--seed", "--out", "--json",
        },
        "derive": {
            "sources", "--k", "--k-min", "--k-max", "--layer-k", "--max-flops", "--max-params", "--max-latency-ms",
            "--costs", "--require", "--forbid", "--pair-flips", "--pareto", "--measure", "--space", "--out",
            "--allow-equal", "--json",
        },
        "export": {
            "subject", "--format", "--out", "--weights", "--seed", "--num-classes", "--channels", "--image-size",
            "--name",
        },
        "convert": {"checkpoint", "--model", "--out", "--key", "--image-size", "--back"},
        "spaces": {"--json"},
        "directions": {"--height", "--width", "--show", "--json"},
        "timm": {"script", "arguments"},
    }  # fmt: skip


@pytest.mark.long
def test_a_training_runs_under_torchrun(finished, tmp_path):
    """Two processes take one half each of the batches of one, and so learn nearly the same."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command += ["-m", "scansearch", "train", str(finished.parent / "genotype.yaml"), "--data", "digits"]
    command += ["--epochs", "1", "--batch-size", "256", "--set", "image_size=8", "--device", "cpu"]
    command += ["--set", "optimizer.name=sgd", "--set", "optimizer.lr=0.1", "--out", str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("test accuracy") == 1
    one = train(
        find_genotype(str(finished.parent / "genotype.yaml")),
        data="digits",
        out=tmp_path / "one",
        epochs=1,
        batch_size=256,
        image_size=8,
        device="cpu",
        optimizer={"name": "sgd", "lr": 0.1},
    )
    losses = [[record["loss"] for record in Run(tmp_path / name).metrics("step")] for name in ("one", "two")]
    assert losses[1][0] == pytest.approx(losses[0][0], abs=1e-4)
    assert losses[1] == pytest.approx(losses[0], abs=0.05)
    assert (
        one.test.images == json.loads((tmp_path / "two" / "result.json").read_text())["test"]["images"] == 360
    )
