"""The benchmark of search steps: what it times is what it says."""

import json

import pytest
from typer.testing import CliRunner

from scansearch.bench.search_steps import bench_search, cells
from scansearch.cli import app
from scansearch.errors import InputError

SMALL = {"data": "fake:8x8:3", "batch_size": 4, "steps": 1, "rounds": 1}


@pytest.fixture
def space(tiny_space_file):
    return str(tiny_space_file)


def test_every_relaxation_is_timed_with_the_branches_that_it_computes(space):
    rows = {row.relaxation: row for row in bench_search(space, k=2, **SMALL)}
    candidates = rows["softmax"].active
    assert candidates > 2
    assert {name: row.active for name, row in rows.items()} == {
        "softmax": candidates,
        "gumbel_topk": 2,
        "gdas": 1,
        "sigmoid": candidates,
        "uniform": 2,
    }
    assert rows["softmax"].ratio == 1
    assert all(row.ratio == pytest.approx(row.ms / rows["softmax"].ms, rel=0.05) for row in rows.values())
    assert cells(rows["softmax"])[::3] == ("softmax", "1.00")


def test_softmax_is_always_there_to_compare_with(space):
    rows = bench_search(space, k=1, relaxations=["gdas"], **SMALL)
    assert [row.relaxation for row in rows] == ["softmax", "gdas"]


def test_the_command_prints_objects(space):
    options = ["--space", space, "--data", SMALL["data"], "--batch-size", "4", "--k", "1", "--rounds", "1"]
    found = CliRunner().invoke(app, ["bench", "search", *options, "--relaxation", "gdas", "--json"])
    assert found.exit_code == 0, found.output
    assert [row["relaxation"] for row in json.loads(found.stdout)] == ["softmax", "gdas"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"relaxations": ["nas"]}, "unknown relaxation 'nas'"), ({"k": 9}, "k is 9"), ({"space": "no"}, "no")],
)
def test_what_cannot_be_is_refused(space, wrong, message):
    with pytest.raises(InputError, match=message):
        bench_search(**{"space": space, **SMALL, **wrong})
