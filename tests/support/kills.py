"""Kill a command at each of its renames and flushes, and see whether what is left can be used; run as a script.

    python kills.py FOLDER CASES

CASES is JSON: {name: {"command": [...], "again": [[...], ...], "result": FILE, "copy": FOLDER}}; ``{out}`` stands for a
place of its own, which starts as a copy of the folder "copy", where one is named. The command is run whole once, and
then again and again, killed before its 1st, 2nd, ... call of os.rename, os.replace or os.fsync, until it ends. After
each kill the commands of "again" are tried in turn until one ends well. One JSON line is printed for every kill:
whether the file "result" is that of the whole run, and what of the temporary files is left.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import scansearch.analysis.fidelity
import scansearch.exporting.targets.torch_program
import scansearch.models
import scansearch.plots.search
import scansearch.plots.training
import scansearch.runs.evolve_run
import scansearch.runs.search_run
import scansearch.runs.train_run  # noqa: F401 - imported once, before all the children
from scansearch.cli import main

torch.set_num_threads(1)
TEMPORARY = re.compile(r"\.[0-9a-f]{6}-\d+-[a-z0-9_]{8}$")


def call(arguments: list[str], die_at: int | None = None) -> tuple[int, str, int]:
    """Exit code (negative: the signal), standard error and number of calls of a command in a forked child."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        calls = 0

        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def replacement(*args: Any, **kwargs: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == die_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*args, **kwargs)

            return replacement

        for name in ("rename", "replace", "fsync"):
            setattr(os, name, counted(getattr(os, name)))
        error = io.StringIO()
        code = 0
        with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
            try:
                main(arguments)
            except SystemExit as stop:
                code = int(stop.code or 0)
        os.write(writing, json.dumps([error.getvalue()[-2000:], calls]).encode())
        os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    error_text, count = json.loads(text) if text else ("", 0)
    return os.waitstatus_to_exitcode(status), error_text, count


def filled(parts: list[str], out: Path) -> list[str]:
    return [part.replace("{out}", str(out)) for part in parts]


def place(folder: Path, case: dict[str, Any]) -> Path:
    folder.mkdir()
    out = folder / "out"
    if case["copy"]:
        shutil.copytree(case["copy"], out)
    return out


def kill_everywhere(name: str, case: dict[str, Any], folder: Path) -> None:
    whole = place(folder / f"{name}-whole", case)
    code, error, count = call(filled(case["command"], whole))
    assert code == 0, (name, error)
    expected = Path(*filled([case["result"]], whole)).read_bytes()
    for at in range(1, count + 1):
        out = place(folder / f"{name}-{at}", case)
        code, error, _ = call(filled(case["command"], out), die_at=at)
        row: dict[str, Any] = {
            "case": name,
            "at": at,
            "of": count,
            "killed": code == -signal.SIGKILL,
            "tried": [],
        }
        for again in case["again"]:
            code, error, _ = call(filled(again, out))
            row["tried"].append((code, error))
            if code == 0:
                break
        result = Path(*filled([case["result"]], out))
        row["same"] = result.is_file() and result.read_bytes() == expected
        row["left"] = [path.name for path in out.parent.rglob("*") if TEMPORARY.search(path.name)]
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    for each, settings in json.loads(Path(sys.argv[2]).read_text()).items():
        kill_everywhere(each, settings, Path(sys.argv[1]))
