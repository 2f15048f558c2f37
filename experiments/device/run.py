"""Checks and measures the GPU kernels on the card of this machine: `python experiments/device/run.py`.

Every step runs in a process of its own with a time limit; results are written as they come, and a summary is printed
last. With `--dry` the same steps run tiny in Triton's interpreter, to test the steps themselves without a card.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TESTS = [
    "-m",
    "pytest",
    "-m",
    "gpu",
    str(ROOT / "tests/kernels/test_gpu_cuda.py"),
    "-p",
    "no:cacheprovider",
    "--tb=short",
]
SANITIZER = [
    "compute-sanitizer",
    "--tool",
    "memcheck",
    "--kernel-regex",
    "kns=scan_",
    "--error-exitcode",
    "9",
]
# name: seconds at most, command after the interpreter's name (or a whole command)
STEPS: dict[str, tuple[int, list[str]]] = {
    "precompile": (70, ["precompile.py"]),
    "smoke": (75, ["smoke.py"]),
    "timing": (70, ["timing.py"]),
    "tests": (70, [*TESTS, "-k", "not whole_model and not compiler"]),
    "models": (100, ["models.py"]),
    "sanitizer": (40, [*SANITIZER, sys.executable, "one.py"]),
    "compiled": (90, [*TESTS, "-k", "whole_model or compiler"]),
}


def environment(out: Path, dry: bool, seconds: float) -> dict[str, str]:
    """Of a step's process."""
    paths = [
        ROOT,
        ROOT / "kernels",
        ROOT / "tests",
        HERE,
        *sys.path[1:],
    ]
    given = {
        "PYTHONPATH": os.pathsep.join(str(path) for path in paths if str(path)),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "4",
        "DEVICE_OUT": str(out),
        "DEVICE_STEP_SECONDS": str(max(5.0, seconds - 4)),
    }
    if dry:
        given |= {"TRITON_INTERPRET": "1", "SCANSEARCH_BACKEND": "cuda"}
    return os.environ | given


def run_step(name: str, seconds: float, command: list[str], out: Path, dry: bool) -> dict[str, object]:
    """Run one step; its output goes to `log.txt`, its last lines to the screen."""
    whole = command if name == "sanitizer" else [sys.executable, *command]
    if shutil.which(whole[0]) is None:
        return {"step": name, "exit": None, "why": f"{whole[0]} is not installed"}
    began = time.monotonic()
    print(f"--- {name}, at most {seconds:.0f} s", flush=True)
    with (out / f"log_{name}.txt").open("w") as log:
        process = subprocess.Popen(
            whole, cwd=HERE, env=environment(out, dry, seconds), stdout=log, stderr=subprocess.STDOUT
        )
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = None
    lines = (out / f"log_{name}.txt").read_text(errors="replace").splitlines()
    print("\n".join(line[:240] for line in lines[-4:]), flush=True)
    return {"step": name, "exit": code, "seconds": round(time.monotonic() - began, 1)}


def rows(out: Path, name: str) -> list[dict[str, object]]:
    """What a step has written, complete or not."""
    try:
        found: list[dict[str, object]] = json.loads((out / f"{name}.json").read_text())["rows"]
    except (OSError, ValueError, KeyError):
        return []
    return found


def summary(out: Path, done: list[dict[str, object]]) -> str:
    """The end of the output: what failed, and the figures."""
    lines = ["==== summary", *(json.dumps(entry) for entry in done)]
    smoke = rows(out, "smoke")
    lines.append(f"smoke: {len(smoke)} checks, {sum(not row['ok'] for row in smoke)} wrong")
    lines += [f"WRONG {json.dumps(row)[:300]}" for row in smoke if not row["ok"]]
    for name in ("timing", "models"):
        for row in rows(out, name):
            shown = (
                f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
                for key, value in row.items()
            )
            lines.append(f"{name}: {' '.join(shown)[:700]}")
    return "\n".join(lines)


def main() -> int:
    """The command line; the exit code is 1 if a step failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"of {', '.join(STEPS)}; all by default")
    parser.add_argument("--seconds", type=float, default=540, help="of all steps together")
    parser.add_argument("--out", type=Path, default=Path("device-results"), help="folder for the results")
    parser.add_argument("--variants", action="store_true", help="time other tunings of the scan too")
    parser.add_argument("--dry", action="store_true", help="tiny, in Triton's interpreter")
    options = parser.parse_args()
    unknown = [name for name in options.steps if name not in STEPS]
    if unknown:
        parser.error(f"no step {unknown[0]!r} (allowed: {', '.join(STEPS)})")
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    names = options.steps or (["smoke", "timing", "models"] if options.dry else list(STEPS))
    began, done = time.monotonic(), []
    for name in names:
        limit, command = STEPS[name]
        room = options.seconds - (time.monotonic() - began)
        if room < 10:
            done.append({"step": name, "exit": None, "why": "no time left"})
            continue
        extra = ["--variants"] if name == "timing" and options.variants else []
        done.append(
            run_step(name, min(limit * (8 if options.dry else 1), room), [*command, *extra], out, options.dry)
        )
    text = summary(out, done)
    (out / "summary.txt").write_text(text + "\n")
    print(text, flush=True)
    return int(any(entry["exit"] != 0 for entry in done))


if __name__ == "__main__":
    sys.exit(main())
