"""The steps of experiments/device without a card: tiny, in Triton's interpreter."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
ROOT = Path(__file__).resolve().parents[2]
RUN = [sys.executable, str(ROOT / "experiments/device/run.py")]


@pytest.mark.long
def test_smoke_timing_and_models_run_dry_and_leave_their_results(tmp_path: Path) -> None:
    done = subprocess.run(
        [*RUN, "smoke", "timing", "models", "--dry", "--out", str(tmp_path), "--seconds", "600"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    smoke = json.loads((tmp_path / "smoke.json").read_text())["rows"]
    assert len(smoke) >= 15
    assert all(row["ok"] for row in smoke)
    (size,) = json.loads((tmp_path / "timing.json").read_text())["rows"]
    assert size["correct"]
    assert size["forward_ms"] > 0
    (model,) = json.loads((tmp_path / "models.json").read_text())["rows"]
    assert model["training_images_per_s"] > 0
    assert done.stdout.rstrip().splitlines()[-1].startswith("models:")
    assert "0 wrong" in (tmp_path / "summary.txt").read_text()


def test_a_step_that_does_not_exist_is_named(tmp_path: Path) -> None:
    done = subprocess.run([*RUN, "smok", "--out", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2
    assert "no step 'smok' (allowed: precompile, smoke" in done.stderr


def test_a_step_out_of_time_is_cut_off_and_the_rest_is_told(tmp_path: Path) -> None:
    done = subprocess.run(
        [*RUN, "smoke", "models", "--dry", "--out", str(tmp_path), "--seconds", "3"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "no time left" in done.stdout
