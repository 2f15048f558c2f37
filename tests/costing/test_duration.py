"""The time that a run will take at least: how it is measured, and that measuring changes nothing."""

from __future__ import annotations

import pytest
import torch
from support.tiny import TINY_SPACE
from support.trainings import make_task, tiny_genotype

from scansearch.costing.duration import extrapolate, step_seconds
from scansearch.files.strict import validate
from scansearch.records.space import SearchSpace, load_space
from scansearch.runs.recorder import Notice, Started
from scansearch.runs.search_run import SearchJob
from scansearch.runs.train_run import train
from scansearch.searching.config import search_config
from scansearch.text import duration


def test_images_lie_on_the_line_through_both_measurements() -> None:
    assert extrapolate(1.0, 2.0, 3, 32) == pytest.approx(1 + 31 * 0.5)
    assert extrapolate(1.0, 0.5, 3, 32) == 1.0, "noise gives no negative slope"
    assert extrapolate(1.0, 3.0, 3, 3) == 3.0
    assert extrapolate(2.0, 2.5, 1, 4) == 10.0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.01, "1 s"), (40, "40 s"), (99, "99 s"), (100, "2 min"), (2100, "35 min"), (7500, "2 h 5 min")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_measuring_leaves_no_gradient_and_uses_no_random_number() -> None:
    model = make_task(drop_path=0.5).model.train()
    state = torch.get_rng_state()
    assert step_seconds(model, (model.in_chans, 8, 8), 5, device=torch.device("cpu")) > 0
    assert step_seconds(model, (model.in_chans, 8, 8), 1, device=torch.device("cpu")) > 0
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_header_tells_it(tmp_path) -> None:
    headers: list[Started] = []

    def observe(notice: Notice) -> None:
        if isinstance(notice, Started):
            headers.append(notice)

    options = {"data": "digits", "epochs": 1, "batch_size": 512, "image_size": 8, "device": "cpu"}
    train(tiny_genotype(), out=tmp_path / "run", observe=observe, **options)
    (header,) = headers
    assert header.needs.endswith(" for all steps")
    assert "at least about " in header.needs


def test_smaller_variants_come_smallest_first() -> None:
    space = load_space("vim8")
    assert space.smaller_variants("small") == ["micro"], "the supernet of tiny is as wide"
    assert space.smaller_variants("micro") == []


@pytest.mark.parametrize(("seconds", "named"), [(3600.0, True), (0.001, False)])
def test_a_long_search_names_a_smaller_variant(
    seconds: float, named: bool, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variant = TINY_SPACE["variants"]["micro"]
    wide = variant | {"supernet": {"embed_dim": 16}, "derived": {"embed_dim": 16}}
    space = validate(
        TINY_SPACE | {"variants": {"micro": variant, "wide": wide}}, SearchSpace, source="spaces"
    )
    monkeypatch.setattr("scansearch.runs.job.step_seconds", lambda *arguments, **options: seconds)
    config = search_config(
        space=space.name, data="fake:8x8:2", variant="wide", k=1, batch_size=8, device="cpu"
    )
    origin = SearchJob.start(config, space, tmp_path / "run", lambda notice: None)._origin()
    line = "time: for a first look, a smaller variant: --variant micro (8 pixels, 2 layers)"
    assert (line in origin) is named
