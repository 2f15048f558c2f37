"""What was asked and what is continued are compared: a resume goes on with the same experiment, or says why not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from support.commands import call
from support.pictures import made_images
from support.tiny import TINY_SPACE

from scansearch.cli import main
from scansearch.files.strict import dump_yaml
from scansearch.runs.folder import Run

OPTIONS = ["--epochs", "2", "--batch-size", "8", "--k", "1", "--quiet", "--device", "cpu"]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A run on a folder of pictures, cut off after its first epoch: the folder that it and its pictures stand in,
    and a copy of it."""
    place, copy = tmp_path_factory.mktemp("original") / "place", tmp_path_factory.mktemp("copy") / "place"
    made_images(place / "images" / "train", ("a", "b"), 20)
    made_images(place / "images" / "val", ("a", "b"), 4)
    space = place / "tiny-test.yaml"
    space.write_text(dump_yaml(TINY_SPACE))
    with pytest.raises(SystemExit) as stop:
        main(
            [
                "run",
                "--space",
                str(space),
                "--data",
                f"folder:{place / 'images'}",
                *OPTIONS,
                "--out",
                str(place / "run"),
            ]
        )
    assert not stop.value.code
    sorted((place / "run" / "checkpoints").iterdir())[-1].unlink()
    shutil.copytree(place, copy)
    return place, copy


@pytest.fixture
def run(original):
    """The folder of that run and the folder of its pictures, as they were."""
    place, copy = original
    shutil.rmtree(place)
    shutil.copytree(copy, place)
    return place / "run", place / "images"


def change_config(folder, old, new):
    path = folder / "config.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed: 0", "seed: 5", "seed of config.yaml was changed from 0 to 5"),
        ("epochs: 2", "epochs: 9", "epochs of config.yaml was changed from 2 to 9"),
        ("batch_size: 8", "batch_size: 4", "batch_size of config.yaml was changed from 8 to 4"),
        (
            "strategy: localmamba",
            "strategy: topk",
            "strategy of config.yaml was changed from 'localmamba' to 'topk'",
        ),
        ("lr: 0.005", "lr: 0.5", "weights.lr of config.yaml was changed from 0.005 to 0.5"),
    ],
)
def test_an_edited_configuration_is_refused_with_what_differs(run, old, new, message, capsys):
    folder, _ = run
    change_config(folder, old, new)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    code, _, err = call(capsys, "run", "--resume", str(folder), "--quiet")
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_an_edited_space_is_refused(run, capsys):
    folder, _ = run
    path = folder / "space.yaml"
    path.write_text(path.read_text().replace("w2", "w3"))
    code, _, err = call(capsys, "run", "--resume", str(folder), "--quiet")
    assert code == 2
    assert "space.yaml was changed" in err


def test_lost_and_edited_costs_are_written_anew_with_a_warning(run, capsys):
    folder, _ = run
    whole = (folder / "costs.json").read_text()
    (folder / "costs.json").write_text(whole.replace("[", "[ ", 1))
    code, _, err = call(capsys, "run", "--resume", str(folder), "--quiet")
    assert code == 0, err
    assert "costs.json was lost or changed" in err
    assert (folder / "costs.json").read_text() == whole


def test_data_that_changed_are_refused_with_what_differs(run, capsys):
    folder, images = run
    made_images(images / "train", ("c",), 20)
    made_images(images / "val", ("c",), 4)
    code, _, err = call(capsys, "run", "--resume", str(folder), "--quiet")
    assert code == 2
    assert "class 'c' of the data is new" in err


def test_a_renamed_image_is_noticed(run, capsys):
    folder, images = run
    (images / "train" / "a" / "0.png").rename(images / "train" / "b" / "00.png")
    (images / "train" / "b" / "0.png").rename(images / "train" / "a" / "00.png")
    code, _, err = call(capsys, "run", "--resume", str(folder), "--quiet")
    assert code == 2
    assert "images were renamed, changed, or moved to another class" in err


def test_device_and_workers_may_change(run, capsys):
    folder, _ = run
    change_config(folder, "workers: 0", "workers: 1")
    code, _, err = call(capsys, "run", "--resume", str(folder), "--quiet")
    assert code == 0, err


def test_other_versions_are_told_and_go_on(run, capsys):
    folder, _ = run
    path = folder / "fingerprint.json"
    content = json.loads(path.read_text())
    content["packages"]["numpy"] = "0.1"
    content["threads"] = 77
    path.write_text(json.dumps(content))
    code, _, err = call(capsys, "run", "--resume", str(folder), "--quiet")
    assert code == 0, err
    assert "started with numpy 0.1" in err
    assert "started with 77 threads" in err


@pytest.mark.parametrize("name", ["environment.json", "fingerprint.json"])
def test_a_run_from_before_these_files_goes_on(run, name, capsys):
    folder, _ = run
    (folder / name).unlink()
    code, _, err = call(capsys, "run", "--resume", str(folder), "--quiet")
    assert code == 0, err


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[1]", b"{", b'{"schema": 1}'])
def test_a_damaged_fingerprint_is_one_line(run, content, capsys):
    folder, _ = run
    (folder / "fingerprint.json").write_bytes(content)
    code, _, err = call(capsys, "run", "--resume", str(folder), "--quiet")
    assert code == 2
    assert "fingerprint.json" in err
    assert err.count("\n") == 1


def test_damaged_lines_of_the_metrics_are_passed_over_and_told(run, capsys):
    folder, _ = run
    path = folder / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    whole = Run.open(folder).metrics()
    bad = [b"garbage\n", b"\xff\xfe\x00\n", b"[1, 2]\n", b'{"kind": "step"}\n']
    path.write_bytes(b"".join([lines[0], *bad, *lines[1:], b'{"kind": "st']))
    assert Run.open(folder).metrics() == whole
    assert Run.open(folder).damaged_metrics() == [2, 3, 4, 5]
    code, _, err = call(capsys, "run", "--resume", str(folder), "--quiet")
    assert code == 0, err
    assert "line 3 of metrics.jsonl is damaged" in err
    path.write_bytes(b"garbage\n")  # nothing is left to draw, and the result is written all the same
    (folder / "result.json").unlink(missing_ok=True)
    code, _, err = call(capsys, "run", "--resume", str(folder), "--quiet")
    assert code == 0, err
    assert "plots/trajectories.png is not drawn" in err
    assert (folder / "result.json").is_file()


# --- folders --------------------------------------------------------------------------------------------


def test_a_new_run_takes_an_empty_folder_only(tmp_path, tiny_space_file, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "summary.md").write_text("mine")
    data = ["--space", tiny_space_file, "--data", "fake:8x8:2"]
    code, _, err = call(capsys, "run", *data, *OPTIONS, "--out", str(folder))
    assert code == 2
    assert "is not empty" in err
    assert [path.name for path in folder.iterdir()] == ["summary.md"]
    (folder / "summary.md").unlink()
    assert call(capsys, "run", *data, *OPTIONS, "--out", str(folder))[0] == 0


KILLED = """
import os, signal, sys
from pathlib import Path
from scansearch.runs import folder as module

number = int(sys.argv[2])
done = 0
def write(path, text):
    global done
    if done == number:
        os.kill(os.getpid(), signal.SIGKILL)
    done += 1
    path.write_text(text)
module.write_text = write
module.Run.create(Path(sys.argv[1]), "epochs: 1\\n", {"threads": 1}, {"space.yaml": "a", "costs.json": "b"})
"""


@pytest.mark.parametrize("number", range(5))
def test_a_kill_at_any_write_of_the_creation_leaves_the_folder_free(tmp_path, number):
    folder = tmp_path / "run"
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(number)], check=False)
    assert done.returncode == (-signal.SIGKILL if number < 4 else 0)
    if number < 4:
        assert not folder.exists()
        Run.create(folder, "epochs: 1\n", {"threads": 1}, {"space.yaml": "a"})
        assert [path.name for path in tmp_path.iterdir()] == ["run"]  # what the dead process left is gone
    assert (folder / "config.yaml").read_text() == "epochs: 1\n"


def test_two_processes_do_not_resume_one_run(run):
    folder, _ = run
    with Run.open(folder).locked():
        done = subprocess.run(
            [sys.executable, "-m", "scansearch", "run", "--resume", str(folder), "--quiet"],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert f"in use by another process (process {os.getpid()} on " in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_signal_to_the_whole_process_group_leaves_a_checkpoint(tmp_path, tiny_space_file):
    """As Slurm and systemd send it: the workers that read images get it too."""
    images = tmp_path / "images"
    made_images(images / "train", ("a", "b"), 40)
    made_images(images / "val", ("a", "b"), 4)
    folder = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "scansearch",
        "run",
        "--space",
        tiny_space_file,
        "--data",
        f"folder:{images}",
    ]
    command += ["--epochs", "500", "--batch-size", "8", "--k", "1", "--device", "cpu", "--set", "workers=2"]
    process = subprocess.Popen(
        [*command, "--out", str(folder)], start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not (folder / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert "Traceback" not in errors
    assert Run.open(folder).load_checkpoint() is not None
