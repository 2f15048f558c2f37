"""``scansearch timm SCRIPT``: another program's script, with our models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import call

SCRIPT = """
import argparse, timm
from beside import VALUE
parser = argparse.ArgumentParser()
parser.add_argument("--model")
parser.add_argument("--img-size", type=int)
options = parser.parse_args()
print(__name__, type(timm.create_model(options.model, img_size=options.img_size)).__name__, VALUE)
"""


def test_a_script_gets_its_own_options_and_our_models(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "beside.py").write_text("VALUE = 7")
    command = ["timm", str(tmp_path / "script.py"), "--model", "localvim_tiny", "--img-size", "32"]
    done = subprocess.run(
        [sys.executable, "-m", "scansearch", *command], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "__main__ LocalVim 7\n"), done.stderr


@pytest.mark.parametrize("arguments", [["missing.py"], ["missing.py", "--help"]])
def test_no_script_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = call(capsys, "timm", *arguments)
    assert (code, error) == (2, "error: no script 'missing.py'\n")
