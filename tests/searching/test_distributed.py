"""Two processes with half the batch each do what one process with the whole batch does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.processes import torchrun

from scansearch.runs.folder import Run

STRATEGIES = ["localmamba", "darts", "darts2", "fair"]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    out = str(tmp_path_factory.mktemp("ranks") / "state")
    for processes in (1, 2):
        done = torchrun(processes, str(Path(__file__).parents[1] / "support" / "ranks.py"), out, *STRATEGIES)
        assert done.returncode == 0, done.stderr[-3000:]
    return load_file(f"{out}.1"), load_file(f"{out}.2")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_processes_learn_the_same_as_one(outcomes, strategy):
    one, two = outcomes
    names = [name for name in one if name.startswith(f"{strategy}.")]
    assert len(names) > 20
    for name in names:
        # AdamW divides by the root of a tiny second moment, which magnifies rounding of weights' first steps.
        tolerance = 1e-5 if ".alpha." in name else 1e-3
        torch.testing.assert_close(
            two[name], one[name], atol=tolerance, rtol=0, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.long
def test_torchrun_writes_one_run_and_talks_once(tiny_space_file, tmp_path):
    folder = tmp_path / "run"
    arguments = ["-m", "scansearch", "run", "--space", tiny_space_file, "--k", "2", "--epochs", "1"]
    arguments += ["--batch-size", "128", "--set", "image_size=8", "--device", "cpu", "--out", str(folder)]
    done = torchrun(2, *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("next:") == 1
    steps = [record["step"] for record in Run.open(folder).metrics("step")]
    assert steps == list(range(1, 1257 // 128 + 1))
    assert all(len(layer) == 2 for layer in Run.open(folder).genotype.layers)
