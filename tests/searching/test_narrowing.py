"""Layers are fixed one after another, the surest first, and what left is neither computed nor changed any more."""

from __future__ import annotations

import pytest
import torch

from scansearch import engine
from scansearch.errors import InputError
from scansearch.searching.config import search_config
from scansearch.searching.narrowing import Narrowed, Narrowing
from scansearch.searching.selection import perturbation, select
from scansearch.searching.strategies import RELAXATIONS

VALUES = ([0.3, -0.2, 1.1, 0.0, 0.4], [0.0, 3.0, -1.0], [0.1, 0.0])


def make_alphas() -> list[torch.Tensor]:
    return [torch.tensor(row, dtype=torch.float64, requires_grad=True) for row in VALUES]


def draw(relaxation, alphas, active: int = 2):
    generator = torch.Generator().manual_seed(5)
    return relaxation.gates(alphas, active=active, temperature=0.7, generator=generator)


@pytest.mark.parametrize("name", RELAXATIONS)
def test_a_relaxation_of_open_layers_is_itself(name: str) -> None:
    relaxation, alphas = RELAXATIONS.load(name)(), make_alphas()
    narrowed = Narrowed(relaxation)
    assert (narrowed.learns_alphas, narrowed.samples) == (relaxation.learns_alphas, relaxation.samples)
    for mine, its in zip(draw(narrowed, alphas), draw(relaxation, alphas), strict=True):
        assert mine.active == its.active
        assert torch.equal(mine.values, its.values)
    for mine, its in zip(narrowed.probabilities(alphas), relaxation.probabilities(alphas), strict=True):
        assert torch.equal(mine, its)


@pytest.mark.parametrize("name", RELAXATIONS)
def test_a_fixed_layer_is_the_relaxation_of_what_stayed(name: str) -> None:
    relaxation, alphas = RELAXATIONS.load(name)(), make_alphas()
    narrowed = Narrowed(relaxation)
    narrowed.open = {0: (1, 2, 4)}
    few = [alphas[0][[1, 2, 4]], *alphas[1:]]
    gates = draw(narrowed, alphas)
    assert gates[0].active == tuple((1, 2, 4)[index] for index in draw(relaxation, few)[0].active)
    assert torch.equal(gates[0].values, draw(relaxation, few)[0].values)
    probabilities = narrowed.probabilities(alphas)[0]
    assert probabilities[[0, 3]].tolist() == [0.0, 0.0]
    assert torch.equal(probabilities[[1, 2, 4]], relaxation.probabilities(few)[0])
    for scored, inner in zip(
        narrowed.scored_gates(alphas, active=2, temperature=1.0),
        relaxation.scored_gates(few, active=2, temperature=1.0),
        strict=True,
    ):
        assert set(scored[0].active) <= {1, 2, 4}
        assert torch.equal(scored[0].values, inner[0].values)
    if narrowed.learns_alphas:
        gates[0].values.square().sum().backward()
        assert alphas[0].grad[[0, 3]].tolist() == [0.0, 0.0]
        assert alphas[0].grad[[1, 2, 4]].any()


@pytest.mark.parametrize(
    ("progress", "fixed"), [(0.0, []), (0.49, []), (0.5, [1]), (0.66, [1]), (0.67, [1, 0]), (0.99, [1, 0])]
)
def test_the_surest_layer_is_fixed_first_and_the_last_one_never(progress: float, fixed: list[int]) -> None:
    narrowing = Narrowing(Narrowed(RELAXATIONS.load("softmax")()), k=1)
    narrowing.advance(make_alphas(), progress)
    assert list(narrowing.scores) == fixed
    kept = {1: (1,), 0: (2,)}
    assert narrowing.relaxation.open == {layer: kept[layer] for layer in fixed}


def test_a_layer_of_k_candidates_has_nothing_to_decide_and_goes_first() -> None:
    narrowing = Narrowing(Narrowed(RELAXATIONS.load("softmax")()), k=2)
    narrowing.advance(make_alphas(), 0.5)
    assert list(narrowing.scores) == [2]
    assert narrowing.relaxation.open == {2: (0, 1)}


def test_the_scores_are_those_by_which_a_layer_was_fixed() -> None:
    alphas = make_alphas()
    narrowing = Narrowing(Narrowed(RELAXATIONS.load("softmax")()), k=1)
    narrowing.advance(alphas, 0.5)
    before = torch.softmax(alphas[1], 0).tolist()
    with torch.no_grad():
        alphas[1] += 1.0
        alphas[1][0] += 9.0
    scores = narrowing.all_scores(alphas)
    assert scores[1] == before
    assert scores[0] == torch.softmax(alphas[0], 0).tolist()
    again = Narrowing(Narrowed(RELAXATIONS.load("softmax")()), k=1)
    again.load(narrowing.state())
    assert (again.scores, again.relaxation.open) == (narrowing.scores, narrowing.relaxation.open)


def test_a_search_computes_and_changes_what_stayed_only(make_task) -> None:
    task = make_task(strategy="narrowing", epochs=4, k=1, alphas={"warmup_epochs": 0})
    steps = task.epochs * task.steps_per_epoch
    seen = {}
    for event in engine.drive(task, seed=0):
        if isinstance(event, engine.StepDone) and event.step in (steps // 2 + 1, steps):
            seen[event.step] = {name: tensor.clone() for name, tensor in task.tensors().items()}
    (layer,) = task.narrowing.scores  # of two
    (kept,) = task.relaxation.open[layer]
    dropped = [index for index in range(4) if index != kept]
    mixer = task.supernet.mixers[layer]
    names = {id(p): name for name, p in task.supernet.named_parameters()}
    first, last = seen.values()
    for parameter in mixer.branch_parameters():
        name = next(key for key in first if key.startswith("supernet") and key.endswith(names[id(parameter)]))
        assert torch.equal(first[name][dropped], last[name][dropped])
        assert not torch.equal(first[name][kept], last[name][kept])
    scores = torch.tensor(select(task).scores)
    assert int(scores[layer].argmax()) == kept
    assert scores.min() > 0


def test_what_learns_no_alphas_cannot_be_narrowed() -> None:
    with pytest.raises(InputError, match="learns no alphas, so selection 'narrowing'"):
        search_config(space="tiny-test", relaxation="uniform", selection="narrowing")


def test_what_left_costs_nothing_to_remove(make_task) -> None:
    task = make_task(strategy="narrowing", epochs=2, k=2)
    for _ in engine.drive(task, seed=0):
        pass
    (layer,) = task.narrowing.scores
    kept = set(task.relaxation.open[layer])
    drops = perturbation(task.relaxation, task.supernet.alphas, task.validation_loss)
    assert {index for index, drop in enumerate(drops[layer].tolist()) if drop} == kept
    assert drops[1 - layer].ne(0).all()
    task.relaxation.open[layer] = task.relaxation.open[layer][:1]
    assert (
        perturbation(task.relaxation, task.supernet.alphas, task.validation_loss)[layer].tolist() == [0.0] * 4
    )
