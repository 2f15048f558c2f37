"""The command line: what it leaves behind, what it says to bad input, and how fast it answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.commands import call

import scansearch
from scansearch.cli import main
from scansearch.records.genotype import Genotype
from scansearch.runs.folder import Run

QUICK = ["--k", "2", "--epochs", "2", "--batch-size", "64", "--set", "image_size=8", "--device", "cpu"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of one finished run of the tiny space."""
    from support.tiny import TINY_SPACE

    from scansearch.files.strict import dump_yaml

    folder = tmp_path_factory.mktemp("runs")
    space = folder / "tiny-test.yaml"
    space.write_text(dump_yaml(TINY_SPACE))
    with pytest.raises(SystemExit) as stop:
        main(["run", "--space", str(space), *QUICK, "--out", str(folder / "run"), "--quiet"])
    assert not stop.value.code
    return folder / "run"


@pytest.mark.smoke
def test_run_leaves_everything_that_it_promises(finished):
    present = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    assert present >= {
        "config.yaml",
        "space.yaml",
        "environment.json",
        "metrics.jsonl",
        "preferences.json",
        "genotype.yaml",
        "summary.md",
        "report.html",
        "plots/preferences.png",
        "plots/trajectories.png",
    }
    assert [name for name in present if "/." in f"/{name}"] == [".lock"], "temporary files are left"
    assert len(list((finished / "checkpoints").iterdir())) == 2
    report = (finished / "report.html").read_text()
    assert "running, epoch" not in report
    assert "scansearch train " in report.split("What comes next")[1]
    run = Run.open(finished)
    assert all(len(set(layer)) == 2 for layer in run.genotype.layers)
    for layer, names in enumerate(run.genotype.layers):
        best = {name for name, _ in run.preferences.ranked(layer)[:2]}
        assert set(names) == best
    steps = [record["step"] for record in run.metrics("step")]
    assert steps == list(range(1, 2 * (1257 // 64) + 1))
    assert len(run.metrics("epoch")) == 2


def test_summary_tells_the_measured_figures(finished):
    text = (finished / "summary.md").read_text()
    run = Run.open(finished)
    assert run.genotype.hash in text
    assert f"validation accuracy {run.metrics('epoch')[-1]['validation_accuracy']:.2f} %" in text
    assert "logistic regression" in text


def test_the_same_command_gives_the_same_result_bit_for_bit(finished, capsys):
    again = finished.parent / "again"
    code, _, _ = call(
        capsys, "run", "--space", str(finished.parent / "tiny-test.yaml"), *QUICK, "--out", str(again)
    )
    assert code == 0
    first, second = Run.open(finished), Run.open(again)
    assert first.preferences.scores == second.preferences.scores
    assert first.genotype.hash == second.genotype.hash
    assert first.metrics("step") == second.metrics("step")


def test_result_and_progress_go_to_their_own_streams(tiny_space_file, tmp_path, capsys):
    code, out, err = call(capsys, "run", "--space", tiny_space_file, *QUICK, "--out", str(tmp_path / "run"))
    assert code == 0
    assert "epoch 2/2" in err
    assert "left" in err
    assert "genotype" in out
    assert "next:" in out
    assert "Not tried: whether these directions are better than random ones" in out
    assert "epoch" not in out


def test_a_derived_model_is_built_with_fresh_weights(finished):
    import torch

    genotype = Genotype.load(finished / "genotype.yaml")
    first, second = (genotype.build(num_classes=10, img_size=8, in_chans=1) for _ in range(2))
    assert first(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


# --- bad input: one line, exit code 2, nothing written ---

BAD = {
    "unknown space": (["--space", "vim9"], "unknown space 'vim9' (did you mean 'vim8'? allowed:"),
    "unknown variant": (["--variant", "huge"], "allowed: micro, tiny, small"),
    "k = 0": (["--k", "0"], "k: input should be greater than or equal to 1, found 0"),
    "k = 9": (["--k", "9"], "allowed: 1 to 8"),
    "k is no number": (["--k", "four"], "--k"),
    "unknown option": (["--kk", "4"], "No such option: --kk"),
    "unknown data": (["--data", "mnist"], "allowed: digits"),
    "missing folder": (["--data", "folder:/does/not/exist"], "does not exist"),
    "unknown strategy": (["--strategy", "magic"], "allowed: localmamba"),
    "unknown setting": (
        ["--set", "alphas.lrr=1"],
        "unknown key 'alphas.lrr' (did you mean 'lr'? allowed: lr",
    ),
    "setting of a wrong type": (
        ["--set", "epochs=ten"],
        "epochs: input should be a valid integer, found 'ten'",
    ),
    "setting without value": (["--set", "epochs"], "expected KEY=VALUE"),
    "impossible value": (["--epochs", "0"], "epochs"),
    "unknown device": (["--device", "tpu"], "allowed: auto, cpu, cuda"),
    "batch larger than the data": (["--batch-size", "5000"], "1257 training images"),
    "uniform with magnitude": (["--set", "relaxation=uniform"], "use 'perturbation'"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_clear_line(arguments, message, tmp_path, capsys):
    out = tmp_path / "run"
    code, stdout, stderr = call(capsys, "run", "--space", "vim8", "--out", str(out), *arguments)
    assert code == 2
    assert message in stderr
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1
    assert not stdout
    assert not out.exists()


SPACES = {
    "unknown key": ("schema: 1\ncolour: red\n", "unknown key 'colour'"),
    "repeated key": ("schema: 1\nname: a\nname: b\n", "line 3: key 'name' is repeated"),
    "wrong type": ("schema: one\n", "schema: input should be 1, found 'one'"),
    "unknown direction": ("candidates: [h, w1]\n", "nearest valid name is"),
    "python tag": ("name: !!python/object/apply:os.system [true]\n", "could not determine a constructor"),
    "alias bomb": ("a: &a [x]\nb: [*a, *a]\n", "aliases (*a) are not allowed"),
    "not a mapping": ("- h\n", "expected keys and values"),
    "not YAML": ("a: [1\n", "line"),
}


@pytest.mark.parametrize(("text", "message"), SPACES.values(), ids=SPACES.keys())
def test_a_bad_space_file_is_one_clear_line_naming_the_file(text, message, tmp_path, capsys):
    from support.tiny import TINY_SPACE

    from scansearch.files.strict import dump_yaml

    path = tmp_path / "space.yaml"
    keys = {line.split(":")[0] for line in text.splitlines()}
    rest = {key: value for key, value in TINY_SPACE.items() if key not in keys}
    path.write_text(text if text.startswith("-") else text + dump_yaml(rest))
    code, _, stderr = call(capsys, "run", "--space", str(path), "--out", str(tmp_path / "run"))
    assert code == 2
    assert str(path) in stderr
    assert message in stderr
    assert stderr.count("\n") == 1


def test_output_folders_that_cannot_be_used_are_refused(finished, tmp_path, capsys):
    before = (finished / "genotype.yaml").read_bytes()
    code, _, stderr = call(capsys, "run", "--out", str(finished))
    assert (code, "already holds a run" in stderr) == (2, True)
    assert (finished / "genotype.yaml").read_bytes() == before
    (tmp_path / "file").touch()
    code, _, stderr = call(capsys, "run", "--out", str(tmp_path / "file" / "run"))
    assert (code, "cannot be written" in stderr) == (2, True)


def test_a_folder_without_images_is_refused(tmp_path, capsys):
    (tmp_path / "empty" / "class").mkdir(parents=True)
    code, _, stderr = call(
        capsys, "run", "--data", f"folder:{tmp_path / 'empty'}", "--out", str(tmp_path / "run")
    )
    assert code == 2
    assert "is empty: put pictures in it" in stderr


def test_resume_takes_no_other_option(finished, capsys):
    code, _, stderr = call(capsys, "run", "--resume", str(finished), "--k", "3")
    assert code == 2
    assert "leave out --k" in stderr
    code, _, stderr = call(capsys, "run", "--resume", str(finished.parent))
    assert code == 2
    assert "holds no run" in stderr


# --- interruption ---


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.long),
        (signal.SIGKILL, -9),
    ],
)
def test_an_interrupted_run_resumes_where_it_was_and_ends_the_same(number, code, finished, tmp_path, capsys):
    folder = tmp_path / "run"
    space = str(finished.parent / "tiny-test.yaml")
    arguments = [sys.executable, "-m", "scansearch", "run", "--space", space, *QUICK, "--out", str(folder)]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    metrics = folder / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") >= 8):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    assert process.wait(60) == code
    if number != signal.SIGKILL:
        last = process.stderr.read().strip().splitlines()[-1]
        assert last == f"error: interrupted; saved. Continue with: scansearch run --resume {folder}"
    assert not (folder / "genotype.yaml").exists()
    assert call(capsys, "run", "--resume", str(folder), "--quiet")[0] == 0
    whole, resumed = Run.open(finished), Run.open(folder)
    assert resumed.preferences.scores == whole.preferences.scores
    assert resumed.genotype.hash == whole.genotype.hash
    assert resumed.metrics("step") == whole.metrics("step")


# --- lists, help, start-up ---


def test_without_a_command_there_is_help_and_no_error(capsys):
    code, out, err = call(capsys)
    assert code == 2
    assert "run" in out + err
    assert "error" not in err


def test_lists_show_every_space_and_direction(capsys):
    code, out, _ = call(capsys, "spaces")
    assert code == 0
    assert {"vim8", "vmamba8", "micro", "tiny", "small"} <= set(out.split())
    code, out, _ = call(capsys, "directions")
    assert code == 0
    assert {"h", "v", "w<K>"} <= set(out.split())
    code, out, _ = call(capsys, "directions", "--show", "w2_flip", "--height", "2", "--width", "4")
    assert out.split() == ["8", "7", "4", "3", "6", "5", "2", "1"]
    assert call(capsys, "version") == call(capsys, "--version")
    code, out, _ = call(capsys, "--version")
    assert (code, out) == (0, f"scansearch {scansearch.__version__}\n")


def test_the_options_of_run_are_these(capsys):
    """An option that appears or disappears is a decision: change this list with it."""
    from typer.main import get_command

    from scansearch.cli import app

    options = {name for parameter in get_command(app).commands["run"].params for name in parameter.opts}
    assert options == {
        "--space", "--k", "--variant", "--data", "--epochs", "--batch-size", "--seed", "--out", "--device",
        "--strategy", "--set", "--resume", "--quiet", "--config", "--image-size", "--channels",
        "--augment", "--verify", "--task", "--track",
    }  # fmt: skip


def test_environment_records_the_command(finished):
    told = json.loads((finished / "environment.json").read_text())
    assert told["device"] == "cpu"
    assert told["seed"] == 0
    assert os.environ.get("HOME", "/none") not in json.dumps(told["packages"])
