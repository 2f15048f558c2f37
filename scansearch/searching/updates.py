"""Updates: which parameters learn from which images, in one search step.

An update is a function of a :class:`StepTools` and the step's batches. All of them move the weights with
:meth:`StepTools.step_weights` and, unless the alphas are frozen, the alphas with :meth:`StepTools.step_alphas`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor, nn

from scansearch.engine.micro_batches import Batch, MicroBatch, add_gradients
from scansearch.models.merge import LayerGates
from scansearch.searching.relaxations import Relaxation, uniform_noise
from scansearch.searching.supernet import Supernet
from scansearch.tasks.protocol import VisionTask, in_float32

if TYPE_CHECKING:
    from accelerate import Accelerator

Gates = list[LayerGates]


@dataclass
class StepTools:
    """What an update works with. ``network`` is the supernet, wrapped for several processes where needed.

    ``criterion`` is that of the task ``kind``.
    """

    supernet: Supernet
    network: nn.Module
    relaxation: Relaxation
    weights: torch.optim.Optimizer
    alphas: torch.optim.Optimizer
    accelerator: Accelerator
    criterion: nn.Module
    penalty: Callable[[Sequence[Tensor]], Tensor | None]
    generator: Generator
    temperature: float
    active: int
    accumulate: int
    clip_norm: float | None
    alphas_frozen: bool
    kind: VisionTask

    @property
    def learns_alphas(self) -> bool:
        return self.relaxation.learns_alphas and not self.alphas_frozen

    def gates(self) -> Gates:
        """Gates of this step, drawn by the relaxation; without a gradient while the alphas are frozen."""
        with nullcontext() if self.learns_alphas else torch.no_grad():
            return self.relaxation.gates(
                self.supernet.alphas,
                active=self.active,
                temperature=self.temperature,
                generator=self.generator,
            )

    def backward(
        self, batch: Batch, gates: Gates, *, scale: float = 1.0, penalise: bool = False
    ) -> dict[str, float]:
        """Add the gradient of ``scale`` x mean loss of ``batch`` (in micro-batches); returns loss and accuracy."""

        def add(part: MicroBatch) -> Tensor:
            with self.accelerator.autocast():
                outputs = self.kind.forward(self.network, part.images, part.labels, gates)
            loss = self.criterion(in_float32(outputs), part.labels)
            objective = loss * part.share * scale
            if part.last and penalise and self.learns_alphas:
                extra = self.penalty(self.supernet.alphas)
                objective = objective if extra is None else objective + extra
            # Gates are shared by the micro-batches, so the graph from the alphas to them is kept.
            objective.backward(retain_graph=not part.last)
            return torch.stack([loss.detach(), self.kind.accuracy(outputs, part.labels)])

        return add_gradients(batch, self.accumulate, add, network=self.network, accelerator=self.accelerator)

    def step_weights(self, *used: Gates) -> None:
        """Clip, step and clear the weights; branches that no ``used`` gates activated stay bit-unchanged."""
        parameters = list(self.supernet.weights.values())
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(parameters, self.clip_norm)
        with frozen_branches(self.supernet, self.weights, used):
            self.weights.step()
        self.weights.zero_grad()

    def step_alphas(self) -> None:
        """Average the alphas' gradients over the processes, step them, and clear their gradients."""
        if self.learns_alphas:
            reduce_gradients(self.supernet.alphas, self.accelerator)
            self.alphas.step()
        self.alphas.zero_grad()

    def discard_gradients(self) -> None:
        self.weights.zero_grad()
        self.alphas.zero_grad()


def reduce_gradients(parameters: Sequence[nn.Parameter], accelerator: Accelerator) -> None:
    """Replace every gradient by its mean over the processes (data parallel hooks do not cover the alphas)."""
    if accelerator.num_processes == 1:
        return
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad = accelerator.reduce(parameter.grad, reduction="mean")


@contextmanager
def frozen_branches(
    supernet: Supernet, optimizer: torch.optim.Optimizer, used: Sequence[Gates]
) -> Iterator[None]:
    """Keep weights and optimizer state of unused branches exactly as they are across ``optimizer.step()``.

    A branch is a slice of parameters stacked over directions; its gradient is zero rather than absent, so
    momentum and weight decay would move it.
    """
    kept: list[tuple[nn.Parameter, list[int], dict[str, Tensor]]] = []
    for layer, mixer in enumerate(supernet.mixers):
        active = {index for gates in used for index in gates[layer].active}
        unused = [index for index in range(len(mixer.directions)) if index not in active]
        if not unused:
            continue
        for parameter in mixer.branch_parameters():
            state = optimizer.state.get(parameter, {})
            saved = {key: v[unused].clone() for key, v in state.items() if _stacked(v, parameter)}
            kept.append((parameter, unused, saved | {"": parameter.detach()[unused].clone()}))
    yield
    with torch.no_grad():
        for parameter, unused, saved in kept:
            parameter[unused] = saved.pop("")
            for key, value in optimizer.state[parameter].items():
                if _stacked(value, parameter):
                    value[unused] = saved[key] if key in saved else torch.zeros_like(value[unused])


def _stacked(value: Any, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape


def joint(tools: StepTools, train: Batch, validation: Batch | None) -> dict[str, float]:
    """Weights and alphas learn together from the training batch: LocalMamba (arXiv 2403.09338, section 3.3)."""
    gates = tools.gates()
    metrics = tools.backward(train, gates, penalise=True)
    tools.step_alphas()
    tools.step_weights(gates)
    return metrics


def bilevel(tools: StepTools, train: Batch, validation: Batch | None) -> dict[str, float]:
    """Alphas learn from the validation batch, then weights from the training batch: DARTS first order."""
    assert validation is not None
    if tools.learns_alphas:
        tools.backward(validation, tools.gates(), penalise=True)
        tools.step_alphas()
        tools.discard_gradients()
    return _train_weights(tools, train)


def unrolled(tools: StepTools, train: Batch, validation: Batch | None) -> dict[str, float]:
    """As ``bilevel``, with the alphas' gradient taken through one step of the weights: DARTS second order.

    With w' = w - xi grad_w L_train(w, a), the gradient is
    grad_a L_val(w', a) - xi (grad_a L_train(w+, a) - grad_a L_train(w-, a)) / (2 eps),
    w+- = w +- eps grad_w' L_val(w', a), eps = 0.01 / norm of that gradient (arXiv 1806.09055, eq. 7 and 8);
    xi is the weights' current learning rate, and the inner step is plain gradient descent.
    """
    assert validation is not None
    if tools.learns_alphas:
        unrolled_gradients(tools, train, validation, xi=tools.weights.param_groups[0]["lr"])
        tools.step_alphas()
        tools.discard_gradients()
    return _train_weights(tools, train)


def _train_weights(tools: StepTools, train: Batch) -> dict[str, float]:
    """One step of the weights on the training batch; the alphas get no gradient."""
    gates = _detached(tools.gates())
    metrics = tools.backward(train, gates)
    tools.step_weights(gates)
    return metrics


def unrolled_gradients(tools: StepTools, train: Batch, validation: Batch, xi: float) -> None:
    """Leave the second-order gradient in the alphas' ``grad``; weights are restored bit for bit."""
    weights = list(tools.supernet.weights.values())
    original = [w.detach().clone() for w in weights]
    noise = tools.generator.get_state()
    device = tools.accelerator.device
    drawn = device_noise(device)

    def gradients(batch: Batch, penalise: bool = False) -> tuple[list[Tensor], list[Tensor]]:
        # The same gates, dropout and proposals in all four passes: their differences are taken.
        tools.generator.set_state(noise)
        set_device_noise(device, drawn)
        tools.discard_gradients()
        tools.backward(batch, tools.gates(), penalise=penalise)
        return [_grad(w) for w in weights], [_grad(a) for a in tools.supernet.alphas]

    def move(direction: Sequence[Tensor], distance: float) -> None:
        with torch.no_grad():
            for weight, start, step in zip(weights, original, direction, strict=True):
                weight.copy_(start + distance * step)

    inner, _ = gradients(train)
    move(inner, -xi)
    outer, alpha_gradients = gradients(validation, penalise=True)
    norm = torch.sqrt(sum((g.double() ** 2).sum() for g in outer))  # type: ignore[arg-type]
    epsilon = 0.01 / max(float(norm), 1e-12)
    move(outer, epsilon)
    _, plus = gradients(train)
    move(outer, -epsilon)
    _, minus = gradients(train)
    move(outer, 0.0)
    tools.discard_gradients()
    for alpha, direct, up, down in zip(tools.supernet.alphas, alpha_gradients, plus, minus, strict=True):
        alpha.grad = direct - xi * (up - down) / (2 * epsilon)


def device_noise(device: torch.device) -> list[Tensor]:
    """The state of torch's global generators that a model on ``device`` draws from."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def set_device_noise(device: torch.device, state: Sequence[Tensor]) -> None:
    """Bring the generators back to ``state``, which :func:`device_noise` gave."""
    torch.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[1], device)


def _grad(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.detach().clone()


def fair(tools: StepTools, train: Batch, validation: Batch | None) -> dict[str, float]:
    """Every candidate of every layer is active exactly once per step: FairNAS (arXiv 1907.01845, algorithm 1).

    The candidates of a layer are dealt at random into groups of ``active``, one group per pass (the last may
    be smaller); gradients of all passes add up to one step of the weights. A gate is one over the size of its
    group, and the alphas do not learn.
    """
    passes = list(_deal(tools))
    rows = [tools.backward(train, gates, scale=1 / len(passes)) for gates in passes]
    tools.step_weights(*passes)
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def _deal(tools: StepTools) -> Iterator[Gates]:
    alphas = tools.supernet.alphas
    orders = [torch.argsort(uniform_noise(len(a), tools.generator)).tolist() for a in alphas]
    groups = max(-(-len(order) // tools.active) for order in orders)
    for group in range(groups):
        gates = []
        for alpha, order in zip(alphas, orders, strict=True):
            count = -(-len(order) // tools.active)
            # A layer with fewer groups than the largest repeats its deal from the start.
            start = (group % count) * tools.active
            chosen = tuple(sorted(order[start : start + tools.active]))
            value = torch.full((len(chosen),), 1 / len(chosen), dtype=alpha.dtype, device=alpha.device)
            gates.append(LayerGates(value, chosen))
        yield gates


def _detached(gates: Gates) -> Gates:
    return [LayerGates(layer.values.detach(), layer.active) for layer in gates]


@dataclass(frozen=True)
class Update:
    """An update and what it needs."""

    step: Callable[[StepTools, Batch, Batch | None], dict[str, float]]
    needs_validation: bool


JOINT = Update(joint, needs_validation=False)
BILEVEL = Update(bilevel, needs_validation=True)
UNROLLED = Update(unrolled, needs_validation=True)
FAIR = Update(fair, needs_validation=False)
