"""A run killed at any moment, again and again, ends exactly as one that was left alone."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scansearch.runs.folder import Run
from scansearch.searching.strategies import STRATEGIES

EPOCHS, BATCH_SIZE = 2, 64
STEPS = EPOCHS * (1257 // BATCH_SIZE)


def _start(*arguments: str) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "scansearch", "run", *arguments, "--quiet"]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def _finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def _steps(folder: Path) -> int:
    metrics = folder / "metrics.jsonl"
    return metrics.read_text().count('"kind": "step"') if metrics.exists() else 0


def _kill_and_resume(strategy: str, kills: int, space: str, tmp_path: Path) -> None:
    seed = sum(map(ord, strategy)) + kills
    chance = random.Random(seed)
    print(f"seed {seed}")
    options = [
        "--space",
        space,
        "--strategy",
        strategy,
        "--k",
        "2",
        "--device",
        "cpu",
        "--set",
        "image_size=8",
    ]
    options += ["--epochs", str(EPOCHS), "--batch-size", str(BATCH_SIZE), "--set", "alphas.warmup_epochs=0"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    _finish(_start(*options, "--out", str(whole)))

    process = _start(*options, "--out", str(broken))
    for _ in range(kills):
        # Anywhere in what is left of the run, to the millisecond: also while a checkpoint is being written.
        target = chance.randint(min(_steps(broken), STEPS - 2), STEPS - 2)
        while process.poll() is None and _steps(broken) <= target:
            time.sleep(0.002)
        time.sleep(chance.random() * 0.05)
        process.kill()
        process.communicate()
        saved = Run.open(broken).load_checkpoint()
        resumed_from = saved.step if saved else 0
        assert resumed_from >= _steps(broken) - 0.2 * STEPS
        process = _start("--resume", str(broken))
    _finish(process)

    first, second = Run.open(whole), Run.open(broken)
    assert second.preferences.scores == first.preferences.scores
    assert second.genotype.layers == first.genotype.layers
    assert second.metrics("step") == first.metrics("step")
    assert [r["probabilities"] for r in second.metrics("epoch")] == [
        r["probabilities"] for r in first.metrics("epoch")
    ]


# That a resume from any checkpoint is exact is tried for every strategy in test_search_loop.py, and a killed command
# in test_cli.py; twenty kills are slow.
@pytest.mark.long
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_twenty_kills_change_nothing(strategy, tiny_space_file, tmp_path):
    _kill_and_resume(strategy, 20, tiny_space_file, tmp_path)
