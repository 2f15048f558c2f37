"""A run folder taken up again: what is left of an unfinished run is worth as much as its checkpoint."""

import pytest
from typer.testing import CliRunner

from scansearch.cli import app
from scansearch.errors import InputError
from scansearch.records.genotype import Genotype
from scansearch.runs.reopen import select_unfinished
from scansearch.runs.search_run import run_search
from scansearch.searching.config import search_config


@pytest.fixture(params=["localmamba", "spos", pytest.param("fair", marks=pytest.mark.long)])
def cut_off(request, tiny_space_file, tmp_path):
    """A finished run, and the same run as it was before it selected: the preferences, then the folder."""
    config = search_config(
        space=tiny_space_file,
        data="fake:8x8:3",
        strategy=request.param,
        epochs=1,
        k=1,
        evolution={"evaluations": 6},
    )
    done = run_search(config, out=tmp_path / "run")
    for name in ("preferences.json", "genotype.yaml", "result.json", "evolution.json", "summary.md"):
        (tmp_path / "run" / name).unlink(missing_ok=True)
    return done.preferences, tmp_path / "run"


def test_an_unfinished_run_is_derived_from_by_its_own_selection(cut_off, tmp_path):
    preferences, folder = cut_off
    before = sorted(path.name for path in folder.rglob("*"))
    told = []
    found = select_unfinished(folder, warn=told.append)
    assert found == preferences
    assert preferences.selection in told[0]

    out = tmp_path / "genotype.yaml"
    result = CliRunner().invoke(app, ["derive", str(folder), "--k", "2", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "is not finished" in result.stderr
    assert all(len(layer) == 2 for layer in Genotype.load(out).layers)
    assert sorted(path.name for path in folder.rglob("*")) == before


@pytest.mark.parametrize("cut_off", ["localmamba"], indirect=True)
def test_without_a_checkpoint_there_is_nothing_to_select_from(cut_off):
    _, folder = cut_off
    for path in (folder / "checkpoints").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="no checkpoint yet"):
        select_unfinished(folder)
