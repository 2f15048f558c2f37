"""The table of published figures is whole, and what is built here counts as it says."""

from __future__ import annotations

import csv
import json

import pytest
from support.commands import call

from scansearch.analysis.published import BUILT, TABLE, TASKS, published_rows
from scansearch.errors import InputError
from scansearch.models.published import PUBLISHED
from scansearch.plots.published import published_figure


def test_every_row_has_a_source_and_numbers_where_numbers_belong() -> None:
    with TABLE.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 64
    assert len({line["model"] for line in lines}) == 64
    texts = {"model", "group", "other_speed", "source", "cross_checked_in", "disagreements"}
    for line in lines:
        assert line["model"]
        assert line["group"]
        assert line["source"]
        for column in line.keys() - texts:
            assert not line[column] or float(line[column]) > 0, (line["model"], column)


def test_what_is_built_counts_as_published() -> None:
    rows = {row.model: row for row in published_rows()}
    assert {name for name, row in rows.items() if row.ours} == set(BUILT)
    for name, built in BUILT.items():
        ours = rows[name].ours
        assert ours is not None
        assert ours.name == built
        assert ours.params == PUBLISHED[built].parameters
        assert rows[name].agrees, rows[name]
    tiny = rows["LocalVMamba-T"]
    assert (tiny.score, tiny.params, tiny.flops) == (82.7, 26e6, 5.7e9)
    assert tiny.ours is not None
    assert f"{tiny.ours.released_flops / 1e9:.2f}" == "5.73"
    assert rows["Swin-T"].ours is None
    assert rows["Swin-T"].agrees is None


def test_every_task_has_its_own_figures_best_first() -> None:
    best = {task: published_rows(task, count=False)[0] for task in TASKS}
    assert (best["segment"].model, best["segment"].score) == ("DAMamba-B", 51.9)
    assert best["classify"].model == "Spatial-Mamba-B"
    assert best["detect"].flops is not None
    assert best["detect"].flops > 10 * (best["classify"].flops or 0)
    for task in TASKS:
        scores = [row.score or 0 for row in published_rows(task, count=False)]
        assert scores == sorted(scores, reverse=True)
    with pytest.raises(InputError, match=r"unknown task 'pose' \(allowed: classify, detect, segment\)"):
        published_rows("pose")


@pytest.mark.parametrize("task", TASKS)
def test_the_picture_has_every_model_with_both_figures(task: str) -> None:
    rows = published_rows(task, count=False)
    figure = published_figure([(r.model, r.group, r.flops, r.score) for r in rows], TASKS[task][0])
    (axes,) = figure.axes
    drawn = [tuple(point) for group in axes.collections for point in group.get_offsets()]
    assert sorted(drawn) == sorted((r.flops / 1e9, r.score) for r in rows if r.flops is not None)
    with pytest.raises(ValueError, match="groups without a kind: other"):
        published_figure([("a", "other", 1e9, 50.0)], "score")


def test_the_command_shows_draws_and_writes_json(capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    code, out, err = call(capsys, "published", "--out", str(tmp_path / "new" / "published.svg"))
    assert code == 0, err
    assert (tmp_path / "new" / "published.svg").stat().st_size > 1000
    line = next(line for line in out.splitlines() if line.startswith("LocalVim-S "))
    assert line.split() == [
        *("LocalVim-S", "scan", "search", "81.2", "28", "M", "4.8", "G"),
        *("27.78", "M", "4.77", "G", "10.89", "G", "localvim_small"),
    ]
    code, out, err = call(capsys, "published", "--task", "detect", "--json")
    rows = json.loads(out)
    assert len(rows) == len(published_rows("detect", count=False))
    assert all(row["source"] and row["ours"] is None for row in rows)
    code, out, err = call(capsys, "published", "--out", str(tmp_path / "x.txt"))
    assert code == 2
    assert err.count("\n") == 1
