"""The CPU kernels against the reference loop in float64: every argument, any shape, strides, dtype and extreme."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scansearch_kernels import causal_conv, selective_scan
from scansearch_kernels.reference import scan_loop
from support.scan_cases import CASES, ScanCase, check, gradients, random_order, relative_error
from torch import Tensor

LIMITS = {torch.float32: (2e-6, 1e-5), torch.float64: (1e-12, 1e-11)}


def compare(case: ScanCase, dtype: torch.dtype) -> None:
    arguments, learned = case.arguments()
    exact = gradients(arguments, learned, "reference", torch.float64)
    y, ours = gradients(arguments, learned, "cpu", dtype)
    y_limit, gradient_limit = LIMITS[dtype]
    assert relative_error(y, exact[0]) <= y_limit
    for name, gradient, right in zip(
        ["u", "delta", "A", "B", "C", "D", "z", "bias"] * 2, ours, exact[1], strict=False
    ):
        assert relative_error(gradient, right) <= gradient_limit, name


@pytest.mark.smoke
@pytest.mark.parametrize("dtype", LIMITS, ids=["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_kernel_equals_the_reference(name: str, dtype: torch.dtype) -> None:
    compare(CASES[name], dtype)


@given(
    st.builds(
        ScanCase,
        batch=st.integers(1, 3),
        directions=st.integers(1, 4),
        rows=st.integers(1, 40),
        dim=st.integers(1, 80),
        states=st.integers(1, 19),
        rank=st.sampled_from([0, 0, 1, 3]),
        shared_u=st.booleans(),
        skip=st.booleans(),
        gate=st.booleans(),
        bias=st.booleans(),
        softplus=st.booleans(),
        read=st.sampled_from(["none", "order", "padded"]),
        write=st.sampled_from(["same", "order", "dropped"]),
        lengths=st.none(),
        seed=st.integers(0, 10_000),
    ),
    st.booleans(),
    st.lists(st.integers(0, 43), min_size=4, max_size=4),
    st.booleans(),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_call_equals_the_reference(case: ScanCase, unequal: bool, ends: list[int], double: bool) -> None:
    if unequal:
        case.lengths = tuple(ends[: case.directions])
    compare(case, torch.float64 if double else torch.float32)


@pytest.mark.parametrize("states", [1, 2, 3, 4, 5, 8, 16, 33, 64])
def test_any_number_of_states(states: int) -> None:
    compare(ScanCase(states=states, dim=20, rows=21, batch=1, read="order", shared_u=True), torch.float32)


SIZES = {  # kernels as they are used: batch, rows, dim, states, directions
    "vim_k4": (8, 196, 384, 16, 4),
    "vim_k8": (8, 196, 384, 16, 8),
    "vmamba1": (2, 3136, 192, 16, 4),
    "micro": (64, 196, 64, 8, 8),
    "micro_128": (16, 196, 128, 16, 8),  # a quarter of the batch: the reference keeps every state
    "tiny": (64, 64, 64, 16, 8),
}


@pytest.mark.long
@pytest.mark.parametrize("name", SIZES)
def test_accuracy_at_the_sizes_of_the_benchmark(name: str) -> None:
    batch, rows, dim, states, directions = SIZES[name]
    compare(
        ScanCase(
            batch=batch, rows=rows, dim=dim, states=states, directions=directions,
            read="order", shared_u=name == "vmamba1", gate=name != "vmamba1",
        ),
        torch.float32,
    )  # fmt: skip


def sliced(tensor: Tensor) -> Tensor:
    """The same numbers as every other row of a part of a larger tensor."""
    room = torch.full((*tensor.shape[:-2], 2 * tensor.shape[-2] + 1, tensor.shape[-1] + 6), float("nan"))
    view = room[..., 1 : 2 * tensor.shape[-2] : 2, 2:-4]
    view.copy_(tensor)
    assert not view.is_contiguous()
    return view


@pytest.mark.parametrize("layout", [sliced, lambda t: t.transpose(-1, -2).contiguous().transpose(-1, -2)])
def test_strides_do_not_matter(layout) -> None:
    arguments, learned = ScanCase(
        rank=2, read="padded", directions=3, dim=24, dtype=torch.float32
    ).arguments()
    views = {
        name: tuple(map(layout, value)) if isinstance(value, tuple) else layout(value)
        for name, value in arguments.items()
        if name in learned
    }
    views["u"] = views["u"].transpose(0, 1).contiguous().transpose(0, 1)
    y, expected = gradients(arguments, learned, "cpu")
    y_view, ours = gradients({**arguments, **views}, learned, "cpu")
    assert torch.equal(y, y_view)
    for gradient, right in zip(ours, expected, strict=True):
        assert torch.equal(gradient, right)


def test_expanded_and_sliced_gradients_of_y_are_read_rightly() -> None:
    arguments, _ = ScanCase(dim=16, dtype=torch.float32, directions=3).arguments()
    u = arguments["u"].requires_grad_()
    (summed,) = torch.autograd.grad(selective_scan(**arguments).sum(), u)
    (merged,) = torch.autograd.grad(selective_scan(**arguments).sum(1).square().sum(), u)
    y = selective_scan(**arguments)
    (expected,) = torch.autograd.grad(y, u, torch.ones_like(y))
    assert torch.equal(summed, expected)
    total = y.sum(1, keepdim=True).detach()
    (expected,) = torch.autograd.grad(selective_scan(**arguments), u, (2 * total).repeat(1, 3, 1, 1))
    torch.testing.assert_close(merged, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_tensors_are_computed_in_float32(dtype: torch.dtype) -> None:
    arguments, learned = ScanCase(rank=2, dim=24, read="order", dtype=dtype).arguments()
    for name in ("A", "D", "delta_bias"):
        arguments[name] = arguments[name].float()
    wide = {
        name: tuple(t.double() for t in value) if isinstance(value, tuple) else value.double()
        for name, value in arguments.items()
        if name in learned
    }
    y, ours = gradients(arguments, learned, "cpu")
    exact, _ = gradients({**arguments, **wide}, learned, "reference")
    assert y.dtype == dtype
    torch.testing.assert_close(y, exact.to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-2)
    assert [gradient.dtype for gradient in ours[:5]] == [dtype, dtype, dtype, torch.float32, dtype]


@pytest.mark.parametrize("dtype", LIMITS, ids=["float32", "float64"])
@pytest.mark.parametrize("softplus", [True, False])
def test_extremes_stay_finite(softplus: bool, dtype: torch.dtype) -> None:
    wanted = torch.logspace(-8, 4, 25, dtype=torch.float64)
    raw = (
        torch.where(wanted > 30, wanted, torch.log(torch.expm1(wanted.clamp(max=30)))) if softplus else wanted
    )
    delta = raw.repeat(2)[None, None, :, None].expand(1, 2, 50, 18)
    A = -torch.logspace(-4, 4, 18, dtype=torch.float64)[None, :, None].expand(2, 18, 3)
    draw = torch.Generator().manual_seed(3)
    normal = [torch.randn(1, 2, 50, size, generator=draw, dtype=torch.float64) for size in (18, 3, 3)]
    arguments = {
        "u": normal[0], "delta": delta, "A": A, "B": normal[1], "C": normal[2], "delta_softplus": softplus,
        "D": torch.ones(2, 18, dtype=torch.float64), "z": 200 * normal[0][:, 0],
    }  # fmt: skip
    learned = ["u", "delta", "A", "B", "C", "D", "z"]
    y, ours = gradients(arguments, learned, "cpu", dtype)
    exact, right = gradients(arguments, learned, "reference", torch.float64)
    assert relative_error(y, exact) <= LIMITS[dtype][0]
    for gradient, expected in zip(ours, right, strict=True):
        assert torch.isfinite(gradient).all()
        assert relative_error(gradient, expected) <= 5e-5 if dtype == torch.float32 else 1e-10


def test_softplus_is_right_where_torchs_is_cut_off() -> None:
    z = torch.linspace(-60, 60, 241, dtype=torch.float64)
    one = torch.ones(241, 1, 1, 1, dtype=torch.float64)
    y = selective_scan(
        one, z[:, None, None, None], -one[:1, 0], one, one, backend="cpu"
    )  # one step: y is delta
    torch.testing.assert_close(y.flatten(), torch.logaddexp(z, torch.zeros_like(z)), rtol=1e-13, atol=0)


def test_zero_rows_decay_the_state() -> None:
    arguments, _ = ScanCase(read="order", batch=1, directions=1, rows=4, dtype=torch.float64).arguments()
    order = torch.tensor([[0, -1, -1, 1]], dtype=torch.int32)
    with_pads = selective_scan(**{**arguments, "read_order": order})
    without = selective_scan(**{**arguments, "read_order": order[:, [0, 3]].contiguous()})
    exact = scan_loop(check(**{**arguments, "read_order": order}))
    torch.testing.assert_close(with_pads, exact)
    assert not torch.allclose(with_pads, without)


def test_memory_holds_no_state_per_step() -> None:
    batch, directions, rows, dim, states = 2, 2, 256, 64, 16
    arguments, learned = ScanCase(
        batch=batch, directions=directions, rows=rows, dim=dim, states=states, dtype=torch.float32
    ).arguments()
    sizes: list[int] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            for tensor in torch.utils._pytree.tree_leaves(result):
                if isinstance(tensor, Tensor):
                    sizes.append(tensor.numel())
            return result

    with Watch():
        gradients(arguments, learned, "cpu")
    assert max(sizes) == batch * directions * rows * dim
    assert sum(size > batch * directions * rows * dim // 2 for size in sizes) < 25


CONVS = {
    "plain": (2, 9, 5, 3, 4, "none", None, True),
    "order": (2, 9, 70, 3, 4, "order", (9, 3, 0), True),
    "one": (1, 6, 16, 1, 1, "padded", None, False),
    "one_row": (3, 1, 3, 2, 4, "order", None, True),
    "wide": (2, 5, 4, 2, 7, "padded", (8, 2), True),
    "empty": (0, 5, 4, 2, 4, "none", None, True),
}


@pytest.mark.parametrize("dtype", LIMITS, ids=["float32", "float64"])
@pytest.mark.parametrize("name", CONVS)
def test_convolution_equals_the_reference(name: str, dtype: torch.dtype) -> None:
    batch, rows, dim, directions, width, mode, lengths, has_bias = CONVS[name]
    draw = torch.Generator().manual_seed(11)
    both = torch.randn(batch, rows, 2 * dim, generator=draw, dtype=torch.float64)
    weight = torch.randn(directions, dim, width, generator=draw, dtype=torch.float64)
    bias = torch.randn(directions, dim, generator=draw, dtype=torch.float64) if has_bias else None
    steps = rows + 3 * (mode == "padded")
    order = None if mode == "none" else random_order(draw, directions, steps, rows)
    dy = torch.randn(batch, directions, steps, dim, generator=draw, dtype=torch.float64)
    results = []
    for backend, precision in (("reference", torch.float64), ("cpu", dtype)):
        leaves = [t.to(precision).requires_grad_() for t in (both, weight, bias) if t is not None]
        y = causal_conv(
            leaves[0][..., :dim], leaves[1], leaves[2] if has_bias else None,
            read_order=order, lengths=lengths, backend=backend,
        )  # fmt: skip
        results.append([y, *torch.autograd.grad(y, leaves, dy.to(precision))])
    for index, (exact, ours) in enumerate(zip(*results, strict=True)):
        assert relative_error(ours, exact) <= LIMITS[dtype][min(index, 1)]
