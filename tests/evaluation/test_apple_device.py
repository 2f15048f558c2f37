"""`--device mps`: one line where there is no Apple GPU, and what would run where there is one."""

from __future__ import annotations

import pytest
import torch
from scansearch_kernels import backends
from support.commands import call
from support.trainings import tiny_genotype

from scansearch.engine import devices


def test_a_machine_without_one_says_so_in_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    tiny_genotype().save(tmp_path / "genotype.yaml")
    arguments = ["train", str(tmp_path / "genotype.yaml"), "--data", "digits", "--device", "mps"]
    code, _, error = call(capsys, *arguments)
    assert (code, error.count("\n")) == (2, 1)
    assert "torch finds no Apple GPU (allowed here: auto, cpu)" in error


@pytest.mark.parametrize(("device", "cpu"), [("mps", False), ("cpu", True), ("auto", True)])
def test_where_there_is_one_it_is_taken_only_if_asked_for(device, cpu, monkeypatch):
    import accelerate

    asked = {}
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(accelerate, "Accelerator", lambda **options: asked.update(options))
    devices.make_accelerator(device, "no")
    assert asked["cpu"] is cpu


def test_its_scans_go_through_the_reference_with_a_note(monkeypatch):
    monkeypatch.delenv(backends.VARIABLE, raising=False)
    monkeypatch.setattr(backends, "_said", set())
    with pytest.warns(UserWarning, match="no fast kernel for device 'mps': using the reference"):
        assert backends.pick(None, "mps") == "reference"


def test_sums_on_it_are_float32():
    assert devices.widest_float(torch.device("mps")) == torch.float32
    assert devices.widest_float(torch.device("cpu")) == torch.float64
