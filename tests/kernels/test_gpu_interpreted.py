"""Every GPU kernel and gradient without a GPU: Triton's interpreter, which needs a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")


@pytest.mark.parametrize(
    ("marks", "fewest"), [("not long", 60), pytest.param("long or not long", 100, marks=pytest.mark.long)]
)
def test_kernels_agree_with_the_reference_in_the_interpreter(marks: str, fewest: int) -> None:
    files = [str(Path(__file__).with_name(name)) for name in ("interpreted_gpu.py", "interpreted_merge.py")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *files, "-p", "no:cacheprovider", "--tb=short", "-m", marks],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
        env=os.environ | {"TRITON_INTERPRET": "1", "SCANSEARCH_BACKEND": "", "OMP_NUM_THREADS": "1"},
        timeout=3600,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    counted = re.search(r"(\d+) passed", done.stdout)
    assert counted is not None, done.stdout
    assert int(counted.group(1)) > fewest, done.stdout
    assert "skipped" not in done.stdout, done.stdout
