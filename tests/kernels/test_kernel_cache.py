"""Compiled kernels on disk, and compiled for lesser processors: each in processes of their own."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[1]
COMPUTE = """
import json, sys, time, warnings
sys.path.insert(0, {here!r})
import torch
from support.scan_cases import CASES, gradients, relative_error
from scansearch_kernels import selective_scan
from scansearch_kernels.cpu import compiled
from scansearch_kernels.bench.hardware import instruction_set
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    errors = []
    for name in {cases}:
        arguments, learned = CASES[name].arguments()
        if {forward}:
            y = selective_scan(**arguments, backend="cpu")
            errors.append(relative_error(y, selective_scan(**arguments, backend="reference")))
            continue
        y, ours = gradients(arguments, learned, "cpu", torch.float32)
        exact = gradients(arguments, learned, "reference")
        errors += [relative_error(a, b) for a, b in zip([y, *ours], [exact[0], *exact[1]], strict=True)]
folder = compiled.cache_folder()
print(json.dumps(dict(
    error=max(errors), folder=folder and str(folder),
    hits=sum(entry.cache_hits for entry in compiled._compiled.values()),
    kernels=len(compiled._compiled), said=[str(entry.message) for entry in said], used=instruction_set())))
"""


def compute(
    cases: tuple[str, ...] = ("lengths_orders", "many_channels", "low_rank"),
    forward: bool = False,
    **environment: str,
) -> dict:
    """What a new process tells that scanned ``cases``; ``forward``: without gradients, which compile longest."""
    run = subprocess.run(
        [sys.executable, "-c", COMPUTE.format(here=str(HERE), cases=cases, forward=forward)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert run.returncode == 0, run.stderr
    found: dict = json.loads(run.stdout)
    assert found["error"] < 1e-5
    return found


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_the_second_process_finds_what_the_first_compiled(tmp_path: Path) -> None:
    first = compute(("low_rank",), forward=True, NUMBA_CACHE_DIR=str(tmp_path))
    assert Path(first["folder"]).is_relative_to(tmp_path)
    assert first["hits"] == 0
    kept = files(tmp_path)
    second = compute(("low_rank",), forward=True, NUMBA_CACHE_DIR=str(tmp_path))
    assert second["hits"] == second["kernels"] == first["kernels"]
    assert files(tmp_path) == kept


def test_old_versions_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scansearch_kernels.cpu import compiled

    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    for version in range(6):
        monkeypatch.setattr(compiled, "_version", lambda version=version: f"{version:016x}")
        compiled.cache_folder.__wrapped__()
    family = next(tmp_path.iterdir())
    assert len(list(family.iterdir())) == compiled.KEPT_VERSIONS
    assert (family / f"{5:016x}").is_dir()


def test_only_folders_of_versions_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scansearch_kernels.cpu import compiled

    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    family = compiled.cache_folder.__wrapped__().parent
    elsewhere = tmp_path / "elsewhere"
    for folder in (elsewhere, family / "of the user", *(family / f"{number:016x}" for number in range(4))):
        folder.mkdir()
        (folder / "file").write_text("kept?")
        os.utime(folder, (0, 0))
    (family / f"{9:016x}").symlink_to(elsewhere)
    (family / f"{8:016x}").write_text("a file")
    compiled.cache_folder.__wrapped__()
    assert (elsewhere / "file").exists()
    assert (family / "of the user" / "file").exists()
    assert (family / f"{8:016x}").exists()
    assert len([path for path in family.iterdir() if path.is_dir() and not path.is_symlink()]) == 3


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs POSIX permissions")
@pytest.mark.parametrize("case", ["link as family", "link as version", "others may write"])
def test_folders_that_others_could_fill_are_passed_over(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scansearch_kernels.cpu import compiled

    given, temporary, other = tmp_path / "given", tmp_path / "temporary", tmp_path / "other"
    for folder in (given, temporary, other):
        folder.mkdir(mode=0o700)
    family = given / f"scansearch-kernels-{os.getuid()}"
    if case == "link as family":
        family.symlink_to(other)
    else:
        family.mkdir(mode=0o700)
        version = family / compiled._version()
        if case == "link as version":
            version.symlink_to(other)
        else:
            version.mkdir()
            version.chmod(0o777)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(given))
    monkeypatch.setenv("XDG_CACHE_HOME", str(temporary))
    folder = compiled.cache_folder.__wrapped__()
    assert folder.is_relative_to(temporary)
    assert list(other.iterdir()) == []
    for path in (folder, folder.parent):
        assert path.stat().st_mode & 0o777 == 0o700


def test_unwritable_folders_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scansearch_kernels.cpu import compiled

    blocked = tmp_path / "file"
    blocked.write_text("not a folder")  # root may write anywhere, but not below a file
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "temporary"))
    assert compiled.cache_folder.__wrapped__().is_relative_to(tmp_path / "temporary")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(blocked))
    with pytest.warns(UserWarning, match="every process compiles"):
        assert compiled.cache_folder.__wrapped__() is None


LESSER = {
    "AVX2": ("haswell", "-avx512f"),
    "SSE": ("nehalem", "-avx,-avx2,-avx512f,-fma"),
}


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the names of processors are x86's")
@pytest.mark.long
@pytest.mark.parametrize("used", ["SSE", "AVX2"])
def test_right_on_lesser_processors(used: str, tmp_path: Path) -> None:
    name, features = LESSER[used]
    found = compute(NUMBA_CPU_NAME=name, NUMBA_CPU_FEATURES=features, NUMBA_CACHE_DIR=str(tmp_path))
    assert found["used"] == used
