"""A run folder holds whole files only, and its checkpoints are what was saved or nothing."""

from __future__ import annotations

import json
import os
import stat

import pytest
import torch

from scansearch.errors import InputError, RunStopped
from scansearch.files.atomic import write_text
from scansearch.runs.environment import environment
from scansearch.runs.folder import Run, default_folder


@pytest.fixture
def run(tmp_path) -> Run:
    return Run.create(tmp_path / "run", "epochs: 1\n", {"threads": 2})


def _tensors(value: float) -> dict[str, torch.Tensor]:
    return {
        "a": torch.full((3, 2), value),
        "step": torch.tensor(value),
        "half": torch.full((2,), value, dtype=torch.bfloat16),
        "empty": torch.zeros(0, 4),
        "view": torch.arange(6.0).reshape(2, 3).T * value,
    }


def test_checkpoints_come_back_bit_for_bit_and_the_last_two_are_kept(run):
    for step in (1, 2, 3):
        run.save_checkpoint(step, _tensors(step / 3), {"progress": {"step": step}, "x": 0.1})
    assert [path.name for path in run.checkpoints()] == [
        "step-000000002.safetensors",
        "step-000000003.safetensors",
    ]
    checkpoint = run.load_checkpoint()
    tensors, state, warnings = checkpoint.tensors, checkpoint.state, checkpoint.warnings
    assert state == {"progress": {"step": 3}, "x": 0.1}
    assert not warnings
    for name, tensor in _tensors(1.0).items():
        assert torch.equal(tensors[name], tensor)
        assert tensors[name].dtype == tensor.dtype


@pytest.mark.parametrize("damage", ["torn", "flipped bit", "empty", "not safetensors", "edited state"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(run, damage):
    run.save_checkpoint(1, _tensors(1.0), {"n": 1})
    path = run.save_checkpoint(2, _tensors(2.0), {"n": 2})
    content = bytearray(path.read_bytes())
    if damage == "torn":
        content = content[:-7]
    elif damage == "flipped bit":
        content[-3] ^= 4
    elif damage == "empty":
        content = bytearray()
    elif damage == "edited state":
        content = content.replace(b'\\"n\\": 2', b'\\"n\\": 3')
    else:
        content = bytearray(b"\x80\x04pickle")
    path.write_bytes(content)
    checkpoint = run.load_checkpoint()
    tensors, state, warnings = checkpoint.tensors, checkpoint.state, checkpoint.warnings
    assert state == {"n": 1}
    assert torch.equal(tensors["a"], torch.ones(3, 2))
    assert "step-000000002" in warnings[0]


def test_only_damaged_checkpoints_is_an_error_and_none_is_none(run):
    assert run.load_checkpoint() is None
    run.save_checkpoint(1, _tensors(1.0), {}).write_bytes(b"")
    with pytest.raises(InputError, match="damaged"):
        run.load_checkpoint()


def test_metrics_drop_a_torn_line_and_forget_what_will_be_repeated(run):
    for step in range(1, 6):
        run.log({"kind": "step", "step": step})
    with open(run.folder / "metrics.jsonl", "a") as file:
        file.write('{"kind": "step", "st')
    assert [record["step"] for record in run.metrics("step")] == [1, 2, 3, 4, 5]
    run.forget_after(3)
    run.log({"kind": "step", "step": 4})
    assert [record["step"] for record in run.metrics()] == [1, 2, 3, 4]


def test_writing_is_atomic(tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunStopped, match="No space left"):
        write_text(path, "new and longer")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_files_get_the_usual_permissions(tmp_path):
    write_text(tmp_path / "file.txt", "x")
    (tmp_path / "plain").touch()
    assert stat.S_IMODE((tmp_path / "file.txt").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "plain").stat().st_mode
    )


def test_a_folder_with_a_run_is_refused_and_left_alone(run):
    before = sorted(path.name for path in run.folder.iterdir())
    with pytest.raises(InputError, match="already holds a run"):
        Run.create(run.folder, "epochs: 2\n", {})
    assert sorted(path.name for path in run.folder.iterdir()) == before
    assert (run.folder / "config.yaml").read_text() == "epochs: 1\n"


def test_folders_that_cannot_be_used_are_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        Run.create(tmp_path / "file" / "run", "", {})
    with pytest.raises(InputError, match="does not exist"):
        Run.open(tmp_path / "missing")
    with pytest.raises(InputError, match="holds no run"):
        Run.open(tmp_path)


def test_default_folders_do_not_collide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = default_folder("vim8", "darts", 3)
    first.mkdir(parents=True)
    second = default_folder("vim8", "darts", 3)
    assert first != second
    assert "vim8-darts-s3" in first.name


def test_environment_tells_versions_threads_and_seed():
    told = json.loads(json.dumps(environment("cpu", 5)))
    assert told["seed"] == 5
    assert told["threads"] == torch.get_num_threads()
    assert told["packages"]["torch"] == torch.__version__.split("+")[0]
