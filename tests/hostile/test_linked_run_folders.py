"""A run folder of unknown origin holds links to files of the user: nothing is written, emptied or removed there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scansearch.errors import InputError
from scansearch.files.in_place import append_line
from scansearch.files.lock import held
from scansearch.runs.folder import Run
from scansearch.searching.evolution import evolve

OWN = b"a file of the user\n"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    file = tmp_path / "own.txt"
    file.write_bytes(OWN)
    return file


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", "schema: 1\n", {})


def refused(error: pytest.ExceptionInfo[InputError]) -> None:
    assert "is a link" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dangling", [False, True])
def test_a_lock_that_is_a_link_is_not_followed(dangling: bool, run: Run, own: Path) -> None:
    target = own.with_name("missing") if dangling else own
    (run.folder / ".lock").symlink_to(target)
    with pytest.raises(InputError) as error, run.locked():
        raise AssertionError("not locked")
    refused(error)
    assert own.read_bytes() == OWN
    assert not own.with_name("missing").exists()


def test_metrics_that_are_a_link_are_not_written(run: Run, own: Path) -> None:
    (run.folder / "metrics.jsonl").symlink_to(own)
    with pytest.raises(InputError) as error:
        run.log({"kind": "step", "step": 1})
    refused(error)
    assert own.read_bytes() == OWN
    run.forget_after(0)  # replaces the link itself
    assert own.read_bytes() == OWN
    assert not (run.folder / "metrics.jsonl").is_symlink()


@pytest.mark.parametrize("part", ["checkpoints", "plots", "rank"])
def test_a_folder_that_is_a_link_is_refused(part: str, run: Run, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "step-000000001.safetensors").write_bytes(OWN)
    if (run.folder / part).exists():
        (run.folder / part).rmdir()
    (run.folder / part).symlink_to(elsewhere)
    with pytest.raises(InputError) as error:
        Run.open(run.folder)
    refused(error)
    assert (elsewhere / "step-000000001.safetensors").read_bytes() == OWN


@pytest.mark.parametrize("ending", ["", ".claims"])
def test_a_journal_that_is_a_link_is_not_touched(ending: str, own: Path, tmp_path: Path) -> None:
    journal = tmp_path / "evolution.journal"
    Path(f"{journal}{ending}").symlink_to(own)
    with pytest.raises(InputError) as error:
        evolve([["h", "v"]] * 2, lambda layers: 1.0, k=1, evaluations=2, journal=journal)
    refused(error)
    assert own.read_bytes() == OWN


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is no regular file"):
        append_line(tmp_path / "pipe", "line")
    with pytest.raises(InputError, match="is no regular file"), held(tmp_path / "pipe", "busy"):
        raise AssertionError("not held")


def test_lines_are_added_at_the_end(tmp_path: Path) -> None:
    append_line(tmp_path / "lines", "first")
    append_line(tmp_path / "lines", "zweite Zeile: ü")
    assert (tmp_path / "lines").read_text(encoding="utf-8") == "first\nzweite Zeile: ü\n"
