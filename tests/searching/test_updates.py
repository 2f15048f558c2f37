"""What every update must do: the right gradients, and nothing at all to branches that were not active."""

from __future__ import annotations

import pytest
import torch

from scansearch.searching.strategies import STRATEGIES
from scansearch.searching.updates import unrolled_gradients


def _double(task):
    task.supernet.double()
    return task.supernet


def _loss(supernet, gates, batch):
    images, labels = batch
    return torch.nn.functional.cross_entropy(supernet(images.double(), gates), labels)


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_alpha_gradients_of_the_loss_equal_finite_differences(make_task, one_batch, name):
    task = make_task(relaxation=name)
    supernet = _double(task).eval()

    def loss():
        gates = task.relaxation.gates(supernet.alphas, active=2, temperature=0.9, generator=torch.Generator())
        return _loss(supernet, gates, one_batch)

    gradients = torch.autograd.grad(loss(), supernet.alphas)
    step = 1e-5
    for alpha, gradient in zip(supernet.alphas, gradients, strict=True):
        for index in range(len(alpha)):
            with torch.no_grad():
                alpha[index] += step
                up = loss()
                alpha[index] -= 2 * step
                down = loss()
                alpha[index] += step
            assert float((up - down) / (2 * step)) == pytest.approx(
                float(gradient[index]), rel=1e-5, abs=1e-9
            )


def test_second_order_gradient_equals_the_exact_one(make_task, one_batch, monkeypatch):
    """DARTS' finite difference against autograd through the inner step, in float64 on the reference scan."""
    monkeypatch.setenv("SCANSEARCH_BACKEND", "reference")
    task = make_task(strategy="darts2", weights={"label_smoothing": 0.0})
    supernet = _double(task)
    tools = task._tools(1, 5)
    train = (one_batch[0].double(), one_batch[1])
    validation = (one_batch[0].flip(-1).double(), one_batch[1])
    xi = 0.05
    unrolled_gradients(tools, train, validation, xi)
    approximate = [alpha.grad.clone() for alpha in supernet.alphas]

    names = list(supernet.weights)
    weights = list(supernet.weights.values())
    alphas = supernet.alphas

    def gates():
        return task.relaxation.gates(alphas, active=2, temperature=1.0, generator=torch.Generator())

    inner = torch.autograd.grad(_loss(supernet, gates(), train), weights, create_graph=True)
    moved = {name: w - xi * g for name, w, g in zip(names, weights, inner, strict=True)}
    logits = torch.func.functional_call(supernet, moved, (validation[0], gates()))
    exact = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, validation[1]), alphas)
    first_order = torch.autograd.grad(_loss(supernet, gates(), validation), alphas)
    for a, e, f in zip(approximate, exact, first_order, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-3, atol=1e-3 * float(e.abs().max()))
        assert (a - e).abs().max() < 0.2 * (f - e).abs().max()  # the correction is really there


def test_second_order_gradients_leave_the_weights_bit_unchanged(make_task, one_batch):
    task = make_task(strategy="darts2")
    before = {name: w.detach().clone() for name, w in task.supernet.weights.items()}
    unrolled_gradients(task._tools(1, 5), one_batch, one_batch, 0.1)
    assert all(torch.equal(w, before[name]) for name, w in task.supernet.weights.items())


@pytest.mark.parametrize("strategy", ["gdas", "topk", "spos"])
def test_inactive_branches_and_their_optimizer_state_are_bit_unchanged(make_task, one_batch, strategy):
    task = make_task(strategy=strategy, k=1)
    for step in range(12):  # so that momentum exists everywhere
        task.update.step(task._tools(1, step), one_batch, one_batch)
    tools = task._tools(1, 99)
    state = tools.generator.get_state()
    if task.update.needs_validation:  # the alphas' pass draws first
        tools.gates()
    drawn = tools.gates()
    tools.generator.set_state(state)

    def snapshot():
        slices = {}
        for layer, mixer in enumerate(task.supernet.mixers):
            for number, parameter in enumerate(mixer.branch_parameters()):
                for branch in range(len(mixer.directions)):
                    key = (layer, number, branch)
                    moments = [
                        task.weights.state[parameter][m][branch].clone() for m in ("exp_avg", "exp_avg_sq")
                    ]
                    slices[key] = [parameter.detach()[branch].clone(), *moments]
        return slices

    before = snapshot()
    task.update.step(tools, one_batch, one_batch)
    after = snapshot()
    for (layer, number, branch), values in before.items():
        same = all(torch.equal(a, b) for a, b in zip(values, after[layer, number, branch], strict=True))
        assert same == (branch not in drawn[layer].active), (layer, number, branch)


def test_fair_computes_every_candidate_exactly_once_per_step(make_task, one_batch):
    task = make_task(strategy="fair", k=2)
    passes = []
    task.supernet.backbone.register_forward_pre_hook(
        lambda module, args, kwargs: passes.append(kwargs["gates"]), with_kwargs=True
    )
    task.update.step(task._tools(1, 0), one_batch, None)
    assert len(passes) == 2
    for layer in range(2):
        assert sorted(index for gates in passes for index in gates[layer].active) == [0, 1, 2, 3]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_moves_the_weights_and_only_learned_alphas(make_task, one_batch, strategy):
    task = make_task(strategy=strategy)
    weights = {name: w.detach().clone() for name, w in task.supernet.weights.items()}
    alphas = [a.detach().clone() for a in task.supernet.alphas]
    metrics = task.update.step(task._tools(1, 0), one_batch, one_batch)
    assert metrics["loss"] > 0
    assert any(not torch.equal(w, weights[name]) for name, w in task.supernet.weights.items())
    moved = any(not torch.equal(a, old) for a, old in zip(task.supernet.alphas, alphas, strict=True))
    assert moved == task.relaxation.learns_alphas


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_alphas_stay_frozen_during_their_warm_up(make_task, one_batch, strategy):
    task = make_task(strategy=strategy, alphas={"warmup_epochs": 1})
    alphas = [a.detach().clone() for a in task.supernet.alphas]
    task.update.step(task._tools(0, 0), one_batch, one_batch)
    assert all(torch.equal(a, old) for a, old in zip(task.supernet.alphas, alphas, strict=True))


@pytest.mark.parametrize("strategy", ["localmamba", "darts", "darts2", "fair"])
def test_micro_batches_add_up_to_the_whole_batch(make_task, one_batch, strategy):
    results = []
    for accumulate in (1, 4):
        task = make_task(strategy=strategy, accumulate=accumulate)
        for step in range(3):
            task.update.step(task._tools(1, step), one_batch, one_batch)
        results.append([*task.supernet.weights.values(), *task.supernet.alphas])
    for one, four in zip(*results, strict=True):
        torch.testing.assert_close(one, four, rtol=1e-3, atol=1e-4)
