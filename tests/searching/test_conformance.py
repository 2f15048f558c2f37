"""What every relaxation, update and selection must do, whoever wrote it. A new one is a line in its axis.

What only some of them promise (straight-through gradients, inactive branches) is in the files named after them.
"""

from __future__ import annotations

import math

import pytest
import torch

from scansearch.errors import InputError
from scansearch.searching.axes import Axis
from scansearch.searching.config import search_config
from scansearch.searching.relaxations import expected_gates
from scansearch.searching.selection import as_preferences, select
from scansearch.searching.strategies import RELAXATIONS, SELECTIONS, UPDATES

AXES = (RELAXATIONS, UPDATES, SELECTIONS)


def allowed(**axes: str) -> bool:
    """Whether a search may be configured so."""
    try:
        search_config(space="tiny-test", **axes)
    except InputError:
        return False
    return True


# every update with every relaxation that it goes with, and every selection likewise
UPDATE_PAIRS = [
    (update, relaxation)
    for update in UPDATES
    for relaxation in RELAXATIONS
    if any(allowed(update=update, relaxation=relaxation, selection=selection) for selection in SELECTIONS)
]
SELECTION_PAIRS = [
    (selection, relaxation)
    for selection in SELECTIONS
    for relaxation in RELAXATIONS
    if allowed(selection=selection, relaxation=relaxation)
]


@pytest.mark.parametrize("axis", AXES, ids=lambda axis: axis.noun)
def test_every_name_of_an_axis_has_its_object(axis: Axis) -> None:
    for name in axis:
        assert axis.load(name) is not None, name


@pytest.mark.parametrize("axis", AXES, ids=lambda axis: axis.noun)
def test_a_taken_name_is_refused(axis: Axis) -> None:
    name = next(iter(axis))
    with pytest.raises(ValueError, match=f"{axis.noun} '{name}' is already registered"):
        axis.register(name, "package:Object")
    with pytest.raises(ValueError, match="module:object"):
        axis.register("of_ones_own", "package.Object")
    assert "of_ones_own" not in axis


def test_everything_is_paired_at_least_once() -> None:
    assert {update for update, _ in UPDATE_PAIRS} == set(UPDATES)
    assert {selection for selection, _ in SELECTION_PAIRS} == set(SELECTIONS)
    assert {relaxation for _, relaxation in UPDATE_PAIRS} == set(RELAXATIONS)


# --- relaxations ---


def make_alphas(dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    values = [[0.3, -0.2, 1.1, 0.0, 0.4], [2.0], [0.0, 0.0]]
    return [torch.tensor(row, dtype=dtype, requires_grad=True) for row in values]


def draw(name: str, alphas: list[torch.Tensor], *, temperature: float = 0.7, seed: int = 5):
    generator = torch.Generator().manual_seed(seed)
    return RELAXATIONS.load(name)().gates(alphas, active=2, temperature=temperature, generator=generator)


@pytest.mark.parametrize("name", RELAXATIONS)
def test_all_randomness_of_a_relaxation_comes_from_its_generator(name: str) -> None:
    torch.manual_seed(0)
    untouched = torch.get_rng_state()
    first = draw(name, make_alphas())
    assert torch.equal(torch.get_rng_state(), untouched)
    torch.manual_seed(1)
    second = draw(name, make_alphas())
    assert [layer.active for layer in first] == [layer.active for layer in second]
    assert all(torch.equal(a.values, b.values) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", RELAXATIONS)
def test_gates_and_probabilities_have_the_alphas_dtype(name: str, dtype: torch.dtype) -> None:
    alphas = make_alphas(dtype)
    assert {layer.values.dtype for layer in draw(name, alphas)} == {dtype}
    probabilities = RELAXATIONS.load(name)().probabilities(alphas)
    assert [p.shape for p in probabilities] == [alpha.shape for alpha in alphas]
    assert {p.dtype for p in probabilities} == {dtype}
    assert all(((p >= 0) & (p <= 1)).all() for p in probabilities)


@pytest.mark.parametrize("name", RELAXATIONS)
def test_gradients_reach_the_alphas_exactly_where_they_learn(name: str) -> None:
    relaxation, alphas = RELAXATIONS.load(name)(), make_alphas()
    for values in ([layer.values for layer in draw(name, alphas)], relaxation.probabilities(alphas)):
        # weights that differ, as gates that sum to one have no gradient of their sum
        total = sum((v * torch.arange(1.0, len(v) + 1, dtype=v.dtype)).sum() for v in values)
        assert total.requires_grad == relaxation.learns_alphas
        if relaxation.learns_alphas:
            gradients = torch.autograd.grad(total, alphas)
            assert all(gradient.isfinite().all() for gradient in gradients)
            assert gradients[0].abs().max() > 0


@pytest.mark.parametrize("temperature", [1e-2, 1e3])
@pytest.mark.parametrize("name", RELAXATIONS)
def test_extreme_alphas_and_temperatures_stay_finite(name: str, temperature: float) -> None:
    alphas = [torch.tensor([300.0, -300.0, 0.0], requires_grad=True)]
    for seed in range(20):
        (layer,) = draw(name, alphas, temperature=temperature, seed=seed)
        assert layer.values.isfinite().all()
        if layer.values.requires_grad:
            assert torch.autograd.grad(layer.values[0], alphas)[0].isfinite().all()


@pytest.mark.parametrize("name", RELAXATIONS)
def test_gates_for_evaluation_are_all_branches_and_no_chance(name: str) -> None:
    relaxation, alphas = RELAXATIONS.load(name)(), make_alphas()
    first, second = expected_gates(relaxation, alphas), expected_gates(relaxation, alphas)
    assert [layer.active for layer in first] == [tuple(range(len(alpha))) for alpha in alphas]
    assert all(torch.equal(a.values, b.values) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", RELAXATIONS)
def test_a_supernet_is_scored_with_gates_such_as_it_was_trained_with(name: str) -> None:
    relaxation, alphas = RELAXATIONS.load(name)(), make_alphas()
    first, second = (relaxation.scored_gates(alphas, active=2, temperature=0.7) for _ in range(2))
    trained = draw(name, alphas)
    for paths, again in zip(first, second, strict=True):
        for layer, other, drawn in zip(paths, again, trained, strict=True):
            assert layer.active == other.active
            assert torch.equal(layer.values, other.values)
            assert len(layer.active) == len(drawn.active)
            if relaxation.samples:
                assert torch.allclose(layer.values, drawn.values.detach())
            else:
                assert torch.equal(layer.values, drawn.values)


# --- updates ---


def parameters(task) -> list[torch.Tensor]:
    return [p.detach().clone() for p in (*task.supernet.weights.values(), *task.supernet.alphas)]


def make_pair_task(make_task, update: str, relaxation: str):
    selection = next(s for s in SELECTIONS if allowed(update=update, relaxation=relaxation, selection=s))
    return make_task(
        update=update, relaxation=relaxation, selection=selection, seed=4, alphas={"warmup_epochs": 1}
    )


@pytest.mark.parametrize(("update", "relaxation"), UPDATE_PAIRS)
def test_an_update_learns_and_leaves_no_gradient(make_task, one_batch, update, relaxation) -> None:
    task = make_pair_task(make_task, update, relaxation)
    count = len(task.supernet.weights)
    validation = one_batch if task.update.needs_validation else None

    def moved(epoch: int) -> tuple[bool, bool]:
        """Whether any weight, and any alpha, is another after one step."""
        before = parameters(task)
        metrics = task.update.step(task._tools(epoch, 1), one_batch, validation)
        assert metrics.keys() >= {"loss", "accuracy"}
        assert all(math.isfinite(value) for value in metrics.values())
        leftover = [p.grad for p in task.supernet.parameters() if p.grad is not None]
        assert all(not gradient.any() for gradient in leftover)
        changed = [not torch.equal(a, b) for a, b in zip(before, parameters(task), strict=True)]
        return any(changed[:count]), any(changed[count:])

    assert moved(0) == (True, False)  # the warm-up of the alphas
    assert moved(1) == (True, task.relaxation.learns_alphas)


@pytest.mark.parametrize(("update", "relaxation"), UPDATE_PAIRS)
def test_an_update_does_the_same_again(make_task, one_batch, update, relaxation) -> None:
    results = []
    for _ in range(2):
        task = make_pair_task(make_task, update, relaxation)
        for step in range(2):
            torch.manual_seed(step)
            task.update.step(task._tools(1, step), one_batch, one_batch)
        results.append(parameters(task))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


# --- selections ---


@pytest.mark.parametrize(("selection", "relaxation"), SELECTION_PAIRS)
def test_a_selection_scores_every_candidate_and_changes_nothing(make_task, selection, relaxation) -> None:
    task = make_task(relaxation=relaxation, selection=selection, k=2, evolution={"evaluations": 12})
    before = parameters(task)
    first, second = select(task), select(task)
    assert [len(row) for row in first.scores] == [len(names) for names in task.supernet.candidates]
    assert all(type(score) is float and math.isfinite(score) for row in first.scores for score in row)
    assert first.scores == second.scores
    assert all(torch.equal(a, b) for a, b in zip(before, parameters(task), strict=True))
    preferences = as_preferences(task, selection, first.scores, run="made")
    assert preferences.selection == selection
    assert preferences.scores == tuple(map(tuple, first.scores))
