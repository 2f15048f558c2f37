"""Values in a prompt, a notebook, pandas and matplotlib."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.run_folders import (
    SCORES,
    chosen_genotype,
    evaluation,
    search_folder,
    tiny_costs,
    tiny_preferences,
    training_folder,
)

from scansearch.errors import InputError
from scansearch.records.genotype import Genotype
from scansearch.records.space import SearchSpace, load_space
from scansearch.runs.folder import Run
from scansearch.runs.search_result import SearchResult

HOSTILE = "<img src=x onerror=alert(1)>"


def values(folder: Path) -> dict[str, Any]:
    run = Run.open(search_folder(folder / "run"))
    return {
        "Genotype": chosen_genotype(),
        "Preferences": tiny_preferences(),
        "SearchSpace": load_space("vmamba8"),
        "Run": run,
        "SearchResult": SearchResult(None, run.preferences, run),  # type: ignore[arg-type]
        "Evaluation": evaluation(),
        "Costs": tiny_costs(),
    }


def test_a_value_is_one_short_line_in_a_prompt(tmp_path: Path) -> None:
    for name, value in values(tmp_path).items():
        text = repr(value)
        assert len(text) < 140 + len(str(tmp_path)), name
        assert "\n" not in text
        assert str(value) == text
    assert repr(chosen_genotype()) == (
        f"<genotype {chosen_genotype().hash} of tiny-test/micro: 2 layers, 2 directions each>"
    )
    assert repr(tiny_preferences()) == "<Preferences tiny-test/micro: 2 layers of 4 candidates, by magnitude>"


def test_a_value_has_html_tables_and_figures(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    for name, value in values(tmp_path).items():
        page = value._repr_html_()
        assert page.startswith('<div class="scansearch">'), name
        assert "<script" not in page
        assert len(value.to_frame()) > 0
        assert isinstance(value.plot(), Figure)


def test_tables_hold_the_figures(tmp_path: Path) -> None:
    frame = tiny_preferences().to_frame().pivot(index="layer", columns="direction", values="score")
    assert frame.loc[1, ["h", "v", "w2", "v_flip"]].tolist() == list(SCORES[1])
    assert chosen_genotype().to_frame().groupby("layer")["direction"].agg(list).tolist() == [
        ["h", "v"],
        ["w2", "v_flip"],
    ]
    costs = tiny_costs((100.0, 300.0)).to_frame()
    assert costs.loc[costs.layer == 1, "flops"].tolist() == [300.0] * 4
    assert costs.flops[0] == 5.0
    space = load_space("vmamba8").to_frame("tiny")
    assert space[space.layer == 14][["rows", "columns"]].drop_duplicates().values.tolist() == [[7, 7]]
    scores = evaluation(("cat", "dog", "eel")).to_frame()
    assert scores["accuracy"].tolist()[:2] == [75.0, 50.0]
    assert np.isnan(scores["accuracy"][2])
    run = Run.open(search_folder(tmp_path / "run"))
    assert run.to_frame()["validation_accuracy"].tolist() == [51.0, 52.0]
    assert run.to_frame("step")["step"].tolist() == [1, 2]


def test_a_notebook_sees_scans_heat_maps_and_what_was_chosen(tmp_path: Path) -> None:
    assert chosen_genotype()._repr_html_().count("<svg") == 4
    assert tiny_preferences()._repr_html_().count("background:rgb") == 8
    run = Run.open(search_folder(tmp_path / "run"))
    framed = re.findall(r"outline:[^>]*>([\d.]+)<", run._repr_html_())
    assert framed == ["0.40", "0.30", "0.30", "0.40"]
    assert "test accuracy 80.25 %" in run._repr_html_()
    assert Run.open(training_folder(tmp_path / "trained"))._repr_html_().count("<svg") == 4


def test_texts_of_unknown_origin_stay_texts() -> None:
    genotype = Genotype(family="local_vim", space=HOSTILE, variant="v\x1b", layers=(("h",),))
    preferences = tiny_preferences().model_copy(update={"space": HOSTILE, "selection": HOSTILE})
    costs = tiny_costs().model_copy(update={"space": HOSTILE, "convention": HOSTILE})
    for value in (genotype, preferences, costs, evaluation(("cat", HOSTILE), data=HOSTILE)):
        assert "<img" not in value._repr_html_()
        assert "&lt;img" in value._repr_html_()
    assert "\x1b" not in repr(genotype)


def test_layers_that_cost_the_same_share_a_row() -> None:
    assert tiny_costs().equal_layers() == [[0, 1]]
    assert tiny_costs((1.0, 2.0)).equal_layers() == [[0], [1]]
    assert "0 to 1" in tiny_costs()._repr_html_()
    axes = tiny_costs((100.0, 300.0)).plot().axes[0]
    assert [text.get_text() for text in axes.texts] == ["100"] * 4 + ["300"] * 4
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "1"]


def test_plots_take_what_their_figures_take(tmp_path: Path, tiny_space: SearchSpace) -> None:
    genotype = chosen_genotype()
    assert len(genotype.plot(layer=1).axes) == 2
    assert genotype.plot(image=np.zeros((8, 8))).axes[0].images
    assert len(tiny_space.plot().axes) == 4
    with pytest.raises(InputError, match=r"no layer 2 \(allowed: 0 to 1\)"):
        tiny_space.plot(layer=2)
    with pytest.raises(
        InputError, match=r"unknown measure 'flop' \(did you mean 'flops'\? allowed: flops, params"
    ):
        tiny_costs().plot("flop")
    run = Run.open(search_folder(tmp_path / "run"))
    assert len(run.plot("movement").axes) == 2
    with pytest.raises(InputError, match="did you mean 'movement'"):
        run.plot("movment")
    assert len(Run.open(training_folder(tmp_path / "trained")).plot().axes) == 2


def test_a_run_gives_its_costs_result_and_summary(tmp_path: Path) -> None:
    run = Run.open(search_folder(tmp_path / "run"))
    assert run.costs.of(run.genotype.layers)["flops"] == 405.0
    assert run.result["test"]["top1"] == 80.25
    assert run.summary == "# a search\n"
    assert run.config["k"] == 2
    unfinished = Run.open(search_folder(tmp_path / "unfinished", finished=False))
    with pytest.raises(InputError, match=r"has no result\.json, which is written when the run has finished"):
        _ = unfinished.result
    with pytest.raises(InputError, match=r"has no costs\.json, which is there in the folders of searches"):
        _ = Run.open(training_folder(tmp_path / "trained")).costs
