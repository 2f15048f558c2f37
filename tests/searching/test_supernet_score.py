"""What a supernet is scored as: the gates of its last step, and never a mixture that was not trained."""

from __future__ import annotations

import pytest
import torch

from scansearch.models.merge import LayerGates


def with_alphas(task):
    with torch.no_grad():
        for alpha in task.supernet.alphas:
            alpha.copy_(torch.linspace(-1.0, 2.0, len(alpha)).roll(1))
    return task


def test_a_mixture_is_scored_at_the_temperature_of_the_last_step(make_task) -> None:
    task = with_alphas(make_task(temperature={"start": 4.0, "end": 0.25}))
    task.temperature = 0.25
    gates = [
        LayerGates(torch.softmax(a.detach() / 0.25, 0), tuple(range(len(a)))) for a in task.supernet.alphas
    ]
    assert task.score_validation() == task.score_validation(gates)
    task.temperature = 4.0
    assert task.score_validation() != task.score_validation(gates)


def test_the_temperature_is_kept_with_the_state(make_task) -> None:
    options = {"temperature": {"start": 4.0, "end": 0.25}, "epochs": 2}
    task, other = make_task(**options), make_task(**options)
    task.start_epoch(1, 1)
    task.step(1, 5)
    assert task.temperature == pytest.approx(4.0 - 3.75 * 5 / 7)
    other.load(task.tensors(), task.state())
    assert other.temperature == task.temperature


@pytest.mark.parametrize(("strategy", "active"), [("gdas", 1), ("topk", 2)])
def test_a_sampled_supernet_is_scored_on_its_likeliest_path(make_task, strategy: str, active: int) -> None:
    task = with_alphas(make_task(strategy=strategy))
    best = [torch.topk(a.detach(), active).indices.tolist() for a in task.supernet.alphas]
    names = [[task.supernet.candidates[layer][i] for i in chosen] for layer, chosen in enumerate(best)]
    assert task.score_validation() == task.score_validation(task.subnetwork(names))


def test_a_uniform_supernet_is_scored_on_drawn_paths(make_task) -> None:
    task = with_alphas(make_task(strategy="spos"))
    paths = task.relaxation.scored_gates(task.supernet.alphas, active=2, temperature=1.0)
    assert len({tuple(layer.active for layer in path) for path in paths}) > 1
    losses = [task.score_validation(path)["loss"] for path in paths]
    assert task.score_validation()["loss"] == pytest.approx(sum(losses) / len(losses))


def test_inherited_branches_weigh_what_they_weighed_in_training(make_task) -> None:
    chosen = [[names[0], names[2]] for names in make_task().supernet.candidates]
    for strategy, equal in (("localmamba", False), ("topk", True), ("spos", True)):
        gates = with_alphas(make_task(strategy=strategy)).subnetwork(chosen)
        assert all(bool((g.values == 0.5).all()) == equal for g in gates), strategy
