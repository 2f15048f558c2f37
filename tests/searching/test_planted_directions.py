"""A search finds the direction that was planted in the data, and only there finds anything."""

from __future__ import annotations

import pytest
import torch

from scansearch import engine
from scansearch.records.space import load_space
from scansearch.searching.assembly import assemble_search
from scansearch.searching.config import search_config
from scansearch.searching.selection import select

SEES = {"columns": {"v", "v_flip"}, "rows": {"h", "h_flip"}, "blocks": {"w2", "w2_flip"}}


def best_directions(pattern: str, seed: int, epochs: int = 1) -> list[str]:
    """The direction of the largest score in each layer of vim8-bench after a short search."""
    config = search_config(
        space="vim8-bench",
        data=f"planted:{pattern}",
        k=1,
        epochs=epochs,
        seed=seed,
        device="cpu",
        weights={"warmup_epochs": 0.5},
        alphas={"warmup_epochs": 0},
    )
    task = assemble_search(config, load_space("vim8-bench"))
    for _ in engine.drive(task, seed=seed):
        pass
    scores = torch.tensor(select(task).scores)
    return [names[i] for names, i in zip(task.supernet.candidates, scores.argmax(1).tolist(), strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["columns", "blocks"])
def test_the_planted_direction_wins_in_every_layer(pattern: str) -> None:
    assert set(best_directions(pattern, seed=0)) <= SEES[pattern]


@pytest.mark.long
@pytest.mark.parametrize("pattern", SEES)
def test_the_planted_direction_wins_in_nine_of_ten_layers_of_five_seeds(pattern: str) -> None:
    found = [name for seed in range(5) for name in best_directions(pattern, seed, epochs=4)]
    assert sum(name in SEES[pattern] for name in found) >= 0.9 * len(found), found
