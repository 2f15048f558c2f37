"""Pictures of several runs or models: agreement of seeds, score over cost with the front, receptive fields."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.commands import call
from support.trainings import tiny_genotype
from torch import nn

from scansearch.analysis.several import draw_several
from scansearch.derivation.agreement import seed_agreement
from scansearch.errors import InputError
from scansearch.evaluation.receptive_field import ReceptiveField, field_of, receptive_field
from scansearch.plots import agreement_figure, comparison_figure, receptive_fields_figure
from scansearch.plots.training import front_of
from scansearch.records.preferences import Preferences
from scansearch.runs.train_run import train


def search(folder: Path, scores: tuple[float, ...], k: int = 2) -> str:
    """A search's folder with these scores in two layers; the second has them reversed."""
    folder.mkdir()
    (folder / "config.yaml").write_text(f"space: tiny-test\nk: {k}\n")
    (folder / "space.yaml").write_text("")
    Preferences(
        space="tiny-test",
        variant="micro",
        selection="magnitude",
        candidates=(("h", "v", "w2"),) * 2,
        scores=(scores, scores[::-1]),
    ).save(folder / "preferences.json")
    return str(folder)


def test_agreement_counts_the_searches_that_have_a_direction_among_their_best(tmp_path: Path) -> None:
    names = [search(tmp_path / "a", (0.5, 0.3, 0.2)), search(tmp_path / "b", (0.5, 0.2, 0.3))]
    figure, lines = draw_several("agreement", names)
    axes, bars = figure.axes
    assert axes.images[0].get_array().tolist() == [[2, 1, 1], [1, 1, 2]]
    assert [text.get_text() for text in axes.texts] == ["2", "1", "1", "1", "1", "2"]
    assert [bar.get_width() for bar in bars.patches] == pytest.approx([1 / 3, 1 / 3])
    assert lines == [
        "agreement of 2 seeds: top-k overlap 0.50, Kendall's tau 0.33 (layers 0.33 to 0.33)",
    ]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a"], "needs two searches or more"),
        (["a", "other k"], "asked for different k: 1, 2"),
        (["a", "t"], "'t' is unknown|does not exist"),
    ],
)
def test_what_cannot_agree_is_refused(
    names: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    search(Path("a"), (0.5, 0.3, 0.2))
    search(Path("other k"), (0.5, 0.3, 0.2), k=1)
    with pytest.raises(InputError, match=message):
        draw_several("agreement", names)


def test_thirty_three_layers_and_sixteen_candidates_stay_on_a_page() -> None:
    names = tuple(f"random{index}" for index in range(16))
    several = [
        Preferences(
            space="s",
            variant="v",
            selection="magnitude",
            candidates=(names,) * 33,
            scores=tuple(map(tuple, np.random.default_rng(seed).random((33, 16)).tolist())),
        )
        for seed in (0, 1)
    ]
    figure = agreement_figure(several, [4] * 33, seed_agreement(several, [4] * 33))
    assert all(figure.get_size_inches() <= (7.6, 9.6))
    assert min(text.get_fontsize() for text in figure.axes[0].texts) >= 5


def test_the_front_is_what_nothing_beats_at_its_cost() -> None:
    points = [(3.0, 80.0), (1.0, 70.0), (2.0, 60.0), (3.0, 75.0), (4.0, 80.0), (0.5, 10.0)]
    assert front_of(points) == [(0.5, 10.0), (1.0, 70.0), (3.0, 80.0)]
    rows = [
        {"name": f"model {index}", "score": score, "deviation": None, "flops": cost}
        for index, (cost, score) in enumerate(points)
    ]
    dashed = [line for line in comparison_figure(rows).axes[0].lines if line.get_linestyle() == "--"]
    assert [line.get_xydata().tolist() for line in dashed] == [[list(point) for point in front_of(points)]]
    assert not [line for line in comparison_figure(rows[:1]).axes[0].lines if line.get_linestyle() == "--"]


class Window(nn.Module):
    """One channel; every place of its map is the mean of 3x3 pixels around it, weighed by ``weight``."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward_intermediates(self, images: torch.Tensor, **_: object) -> list[torch.Tensor]:
        return [self.weight * nn.functional.avg_pool2d(images, 3, stride=1, padding=1)]


def test_a_receptive_field_is_where_the_middle_looks() -> None:
    field = field_of(Window(2.0), torch.randn(3, 2, 8, 6))
    wanted = np.zeros((8, 6))
    wanted[3:6, 2:5] = 2 / 9 * 2  # two channels
    assert field == pytest.approx(wanted, abs=1e-6)
    assert ReceptiveField("x", field, True).area(0.5) == 5 / 48
    assert not field_of(Window(-1.0), torch.randn(1, 2, 8, 6)).any()  # the positive part alone


def test_receptive_fields_of_trained_and_fresh_models_stand_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"data": "digits", "epochs": 1, "batch_size": 256, "image_size": 8, "device": "cpu"}
    train(tiny_genotype(), out=Path("trained"), progress=False, **options)
    tiny_genotype().save("fresh.yaml")
    code, out, err = call(capsys, "plot", "trained", "fresh.yaml", "--kind", "field", "--out", "field.png")
    assert code == 0, err
    assert "trained: of all contributions, 20 % in " in out
    assert "fresh.yaml, fresh weights: of all contributions" in out
    assert Path("field.png").read_bytes().startswith(b"\x89PNG")
    first, again = receptive_field("trained"), receptive_field("trained")
    assert first.values.shape == (8, 8)
    assert np.array_equal(first.values, again.values)
    assert (first.values >= 0).all()
    figure = receptive_fields_figure([(first.title, first.values), ("other", first.values * 7)])
    shown = [axes.images[0].get_array() for axes in figure.axes[:2]]
    assert np.allclose(*shown)  # each relative to its largest
    code, out, err = call(capsys, "plot", "trained", "--kind", "comparison")
    assert (code, err) == (0, "")
    assert "written to comparison.png" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["h", "v"], "more than one WHAT needs --kind (allowed: agreement, comparison, field)"),
        (["h", "v", "--kind", "paths"], "more than one WHAT is not what --kind paths draws"),
        (["h", "v", "--kind", "agrement"], "unknown kind 'agrement' (did you mean 'agreement'?"),
        (["h", "v", "--kind", "field", "--layer", "1"], "--layer does not go with --kind field"),
        (["vim8", "--kind", "field"], "plot --kind field takes"),
    ],
)
def test_what_several_cannot_be_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = call(capsys, "plot", *arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err
