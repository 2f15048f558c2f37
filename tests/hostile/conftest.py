"""The files of a tiny search and a tiny training, for the tests that damage them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.tiny import TINY_SPACE

from scansearch.cli import main
from scansearch.files.strict import dump_yaml


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``search``, ``training`` and exports of it, made once."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny-test.yaml").write_text(dump_yaml(TINY_SPACE))
    quick = ["--epochs", "2", "--batch-size", "256", "--device", "cpu", "--quiet"]
    search, training = str(folder / "search"), str(folder / "training")
    space = str(folder / "tiny-test.yaml")
    for command in (
        ["run", "--space", space, "--k", "2", "--out", search, *quick],
        ["train", search, "--out", training, "--set", "schedule.warmup_epochs=0", *quick],
        ["export", training, "--format", "hub", "--out", str(folder / "hub")],
        ["export", training, "--format", "torch-export", "--out", str(folder / "model.pt2")],
    ):
        with pytest.raises(SystemExit) as stop:
            main(command)
        assert not stop.value.code, command
    return folder
