"""A lock keeps other processes out until its holder is done or dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from scansearch.errors import InputError
from scansearch.files.lock import held

HOLDER = """
import sys, time
from pathlib import Path
from scansearch.files.lock import held
with held(Path(sys.argv[1]), "busy"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_another_process_is_refused_and_the_holder_named(holder, tmp_path):
    with (
        pytest.raises(InputError, match=f"the folder is in use .process {holder.pid} on "),
        held(tmp_path / "lock", "the folder is in use"),
    ):
        pass


def test_the_death_of_its_holder_frees_the_lock(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with held(tmp_path / "lock", "the folder is in use"):
        pass


def test_a_lock_is_free_again_after_its_block(tmp_path):
    for _ in range(2):
        with held(tmp_path / "lock", "the folder is in use"):
            pass


def test_a_folder_that_cannot_be_written_is_no_error_of_the_lock(tmp_path):
    with held(tmp_path / "missing" / "lock", "the folder is in use"):
        pass
