"""The mixers equal a slow, obvious version: one branch and one step at a time, with permuted copies."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from scansearch.directions import parse_direction
from scansearch.models.merge import BranchMerge, LayerGates
from scansearch.models.mixers import DirectionalSSM, LocalVimMixer, LocalVMambaMixer
from scansearch.models.orders import middle_position

DIRECTIONS = ("h", "v_flip", "w2", "w7_flip", "w3_flip")


def scan_steps(mixer: DirectionalSSM, branch: int, u: Tensor) -> Tensor:
    """h = exp(dt A) h + dt B u, y = C h + D u along ``u`` [steps, dim], with the mixer's own parameters."""
    a = -mixer.A_log[branch].exp()
    projected = u @ mixer.x_proj_weight[branch].T
    low, b, c = projected.split([mixer.dt_rank, mixer.states, mixer.states], dim=-1)
    dt = torch.log1p(torch.exp(low @ mixer.dt_weight[branch].T + mixer.dt_bias[branch]))
    state, outputs = torch.zeros_like(a), []
    for step in range(len(u)):
        state = torch.exp(dt[step][:, None] * a) * state + (dt[step] * u[step])[:, None] * b[step]
        outputs.append(state @ c[step] + mixer.D[branch] * u[step])
    return torch.stack(outputs)


def merge_loop(merge: BranchMerge, branches: list[Tensor], gates: Tensor | None) -> Tensor:
    total = torch.zeros_like(branches[0])
    if merge.weighted and gates is None:
        gates = torch.softmax(merge.alpha, 0)
    for index, y in enumerate(branches):
        attention = merge.attention
        if attention is not None:
            normed = F.layer_norm(y, y.shape[-1:], attention.norm.weight, attention.norm.bias, 1e-5)
            pooled = F.gelu(attention.global_reduce(normed.mean(0)))
            factor = torch.sigmoid(attention.channel_select(pooled)).expand_as(y)
            if attention.local_reduce is not None:
                local = F.gelu(attention.local_reduce(normed))
                both = torch.cat([local, pooled.expand_as(local)], dim=-1)
                factor = factor * torch.sigmoid(attention.spatial_select(both))
            y = y * factor
        total = total + (gates[index] * F.layer_norm(y, y.shape[-1:], eps=1e-5) if merge.weighted else y)
    return total / len(branches) if merge.merge == "mean" and not merge.weighted else total


def orders_of(mixer: DirectionalSSM, height: int, width: int, class_token: bool) -> list[list[int]]:
    orders = []
    for name in mixer.directions:
        order = parse_direction(name).order(height, width, mixer.window_padding).tolist()
        if class_token:
            middle = middle_position(height * width)
            order = [index + (index >= middle) for index in order]
            order.insert(middle, middle)
        orders.append(order)
    return orders


def local_vim_loop(mixer: LocalVimMixer, x: Tensor, height: int, width: int) -> Tensor:
    inner, z = (x @ mixer.in_proj.weight.T).chunk(2, dim=-1)
    branches = []
    for branch, order in enumerate(orders_of(mixer, height, width, mixer.class_token)):
        zero = torch.zeros(mixer.dim, dtype=x.dtype)
        rows = [inner[index] if index >= 0 else zero for index in order]
        taps, u = mixer.conv_weight[branch], []
        for step in range(len(rows)):
            past = [(rows[step - lag], taps[:, -1 - lag]) for lag in range(taps.shape[1]) if step >= lag]
            u.append(F.silu(sum(row * tap for row, tap in past) + mixer.conv_bias[branch]))
        y = scan_steps(mixer, branch, torch.stack(u))
        image = torch.zeros_like(inner)
        for step, index in enumerate(order):
            if index >= 0:
                image[index] = y[step] * F.silu(z[index])
        branches.append(image)
    return merge_loop(mixer.merge, branches, None) @ mixer.out_proj.weight.T


@pytest.mark.parametrize("padding", ["zero", "skip"])
@pytest.mark.parametrize("class_token", [False, True])
@pytest.mark.parametrize("attention", ["none", "channel", "channel+spatial"])
@pytest.mark.parametrize("merge", ["sum", "mean", "weighted"])
@pytest.mark.parametrize(("height", "width"), [(3, 4), (1, 1)])
def test_local_vim_mixer(
    padding: str, class_token: bool, attention: str, merge: str, height: int, width: int
) -> None:
    mixer = LocalVimMixer(
        8,
        DIRECTIONS,
        states=3,
        window_padding=padding,
        branch_attention=attention,
        merge="sum" if merge == "weighted" else merge,
        weighted=merge == "weighted",
        class_token=class_token,
    ).double()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        x = torch.randn(2, height * width + class_token, 8, dtype=torch.float64)
        wanted = torch.stack([local_vim_loop(mixer, image, height, width) for image in x])
        torch.testing.assert_close(mixer(x, height, width), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("padding", ["zero", "skip"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("height", "width"), [(3, 4), (1, 1), (2, 5)])
def test_local_vmamba_mixer(padding: str, weighted: bool, height: int, width: int) -> None:
    mixer = LocalVMambaMixer(8, DIRECTIONS, states=3, window_padding=padding, weighted=weighted).double()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        x = torch.randn(2, height, width, 8, dtype=torch.float64)
        wanted = []
        for image in x:
            inner, z = (image @ mixer.in_proj.weight.T).chunk(2, dim=-1)
            inner = F.silu(mixer.conv2d(inner.permute(2, 0, 1)[None])[0]).permute(1, 2, 0).flatten(0, 1)
            branches = []
            for branch, order in enumerate(orders_of(mixer, height, width, False)):
                zero = torch.zeros(mixer.dim, dtype=x.dtype)
                u = torch.stack([inner[index] if index >= 0 else zero for index in order])
                y, out = scan_steps(mixer, branch, u), torch.zeros_like(inner)
                for step, index in enumerate(order):
                    if index >= 0:
                        out[index] = y[step]
                branches.append(out)
            y = mixer.out_norm(merge_loop(mixer.merge, branches, None)).unflatten(0, (height, width))
            wanted.append((y * F.silu(z)) @ mixer.out_proj.weight.T)
        torch.testing.assert_close(mixer(x), torch.stack(wanted), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("active", [(0,), (3, 1), (0, 1, 2, 3, 4), (4, 2, 0)])
@pytest.mark.parametrize("kind", [LocalVimMixer, LocalVMambaMixer])
def test_only_active_branches_take_part(kind: type[DirectionalSSM], active: tuple[int, ...]) -> None:
    """Gates of zero and branches left out give the same output, and the same gradients where both exist."""
    mixer = kind(8, DIRECTIONS, states=3, weighted=True).double()
    values = torch.rand(len(active), dtype=torch.float64)
    every = torch.zeros(len(DIRECTIONS), dtype=torch.float64).index_put((torch.tensor(active),), values)
    grid = (3, 4)
    shape = (2, 12, 8) if kind is LocalVimMixer else (2, *grid, 8)
    x = torch.randn(shape, dtype=torch.float64)
    arguments = grid if kind is LocalVimMixer else ()
    full = mixer(x, *arguments, LayerGates(every, tuple(range(len(DIRECTIONS)))))
    part = mixer(x, *arguments, LayerGates(values, active))
    torch.testing.assert_close(part, full, rtol=1e-12, atol=1e-12)
    weight = torch.randn_like(full)
    stacked = mixer.branch_parameters()
    wanted = torch.autograd.grad((full * weight).sum(), stacked)
    found = torch.autograd.grad((part * weight).sum(), stacked)
    for parameter, one, other in zip(stacked, found, wanted, strict=True):
        assert parameter.shape[0] == len(DIRECTIONS)
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
        for index in set(range(len(DIRECTIONS))) - set(active):
            assert not one[index].any()
    assert len(stacked) == (7 if kind is LocalVimMixer else 5)


@pytest.mark.parametrize("kind", [LocalVimMixer, LocalVMambaMixer])
def test_gradients_of_alphas_equal_finite_differences(kind: type[DirectionalSSM]) -> None:
    mixer = kind(8, ("h", "v", "w2"), states=2, weighted=True).double()
    x = torch.randn((1, 6, 8) if kind is LocalVimMixer else (1, 2, 3, 8), dtype=torch.float64)
    grid = (2, 3) if kind is LocalVimMixer else ()

    def output(alpha: Tensor) -> Tensor:
        return torch.func.functional_call(mixer, {"merge.alpha": alpha}, (x, *grid))

    alpha = torch.randn(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(output, (alpha,))


def test_bad_gates_are_named() -> None:
    mixer = LocalVimMixer(8, ("h", "v"), weighted=True)
    x = torch.randn(1, 4, 8)
    for gates, message in [
        (LayerGates(torch.ones(0), ()), "at least one"),
        (LayerGates(torch.ones(2), (0, 0)), "distinct"),
        (LayerGates(torch.ones(1), (2,)), r"0\.\.1"),
        (LayerGates(torch.ones(2), (1,)), "do not match"),
    ]:
        with pytest.raises(ValueError, match=message):
            mixer(x, 2, 2, gates)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window_padding": "crop"}, "'zero' or 'skip'"),
        ({"branch_attention": "spatial"}, "'none' or 'channel'"),
        ({"dt_init": "zero"}, "'mamba' or 'released'"),
        ({"merge": "max"}, "'sum' or 'mean'"),
        ({"states": 0}, "states"),
        ({"conv_width": 0}, "conv_width"),
    ],
)
@pytest.mark.parametrize("kind", [LocalVimMixer, LocalVMambaMixer])
def test_unknown_switches_are_named(kind: type, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(8, ("h", "v"), **arguments)


def test_time_steps_start_where_the_named_initialisation_says() -> None:
    # The released LocalVMamba keeps Mamba's initialisation; the released LocalVim overwrites it.
    for kind, dt_init in (
        (LocalVimMixer, "mamba"),
        (LocalVMambaMixer, "mamba"),
        (LocalVMambaMixer, "released"),
    ):
        steps = F.softplus(kind(16, DIRECTIONS, dt_init=dt_init).dt_bias)
        assert 0.00099 < steps.min() < 0.003
        assert 0.05 < steps.max() < 0.101
    released = LocalVimMixer(16, DIRECTIONS, dt_init="released")
    assert not released.dt_bias.any()
    assert 0.015 < released.dt_weight.std() < 0.025


def test_too_few_channels_for_the_attention_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least 8 inner channels"):
        LocalVimMixer(2, ("h",), branch_attention="channel")
    assert LocalVimMixer(2, ("h",), branch_attention="none")(torch.randn(1, 4, 2), 2, 2).shape == (1, 4, 2)
