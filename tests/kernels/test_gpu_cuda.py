"""The cuda backend on a real device: what the interpreter cannot show. Skipped where there is none."""

import random
from typing import Any

import pytest
import torch
from scansearch_kernels import merge, ops
from scansearch_kernels.bench.published_sizes import PUBLISHED_SIZES, LayerSize
from support.gpu_checks import causal_conv, compare, conv_arguments, selective_scan, tensors_of
from support.merge_checks import KINDS, compare_means, compare_sum, drawn
from support.scan_cases import CASES, ScanCase, random_order

DEVICE = "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def moved(arguments: dict[str, Any], dtype: torch.dtype | None = None) -> dict[str, Any]:
    """Arguments on the device, floating-point ones in `dtype`."""

    def move(value: Any) -> Any:
        if isinstance(value, tuple) and isinstance(value[0], torch.Tensor):
            return tuple(move(part) for part in value)
        if isinstance(value, torch.Tensor):
            return value.to(DEVICE, dtype if value.is_floating_point() else None)
        return value

    return {name: move(value) for name, value in arguments.items()}


def layer_arguments(size: LayerSize, batch: int, dtype: torch.dtype, seed: int = 0) -> dict[str, Any]:
    """Random arguments of a published layer; parameters in float32, activations in `dtype`."""
    call = size.scan_call(batch, dtype, device=DEVICE)
    torch.manual_seed(seed)
    for tensor in call.tensors():
        tensor.normal_()
    call.A.copy_(-torch.arange(1, size.states + 1, device=DEVICE).expand_as(call.A))
    assert call.delta_weight is not None
    call.delta_weight.mul_(size.rank**-0.5)
    draw = torch.Generator().manual_seed(seed)
    order = random_order(draw, size.directions, size.steps, size.tokens).to(DEVICE)
    arguments: dict[str, Any] = {
        "u": call.u, "delta": (call.delta, call.delta_weight), "A": call.A, "B": call.B, "C": call.C,
        "D": call.D, "delta_bias": call.delta_bias,
    }  # fmt: skip
    if size.convolved:
        return arguments | {"z": call.z, "write_order": order}
    return arguments | {"read_order": order, "image_length": size.tokens}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_call(name: str, dtype: torch.dtype) -> None:
    compare(moved(CASES[name].arguments()[0], dtype), exact=True, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("size", PUBLISHED_SIZES, ids=lambda size: size.name)
def test_published_sizes_against_float64(size: LayerSize, dtype: torch.dtype) -> None:
    arguments = layer_arguments(size, 2, dtype)
    compare(arguments, exact=True, dtype=dtype)


def test_a_long_sequence_of_one_image_is_split_and_right() -> None:
    size = LayerSize("64 x 64", 4, 4096, 4096, 32, 6, False, states=4)
    compare(layer_arguments(size, 1, torch.float32), exact=True, dtype=torch.float32)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float32])
def test_convolution_of_sliced_tokens(dtype: torch.dtype) -> None:
    arguments = conv_arguments(batch=3, rows=197, dim=96, directions=4, width=4, dtype=dtype)
    order = random_order(torch.Generator().manual_seed(0), 4, 225, 197)
    arguments |= {"read_order": order, "lengths": (225, 197, 100, 0)}
    compare(moved(arguments), function=causal_conv, exact=True, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "shape", [(2, 8, 197, 384), (1, 4, 3136, 192), (3, 1, 50, 100), (2, 4, 49, 1536)], ids=str
)
def test_merge_of_branches(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    given = drawn(shape, dtype, DEVICE)
    for kind in KINDS:
        compare_sum(given, kind)
    y, channel, gates = given
    compare_sum((y.transpose(1, 2).contiguous().transpose(1, 2), channel.float(), gates.float()), "both")
    compare_means(y)


def test_merge_is_deterministic_and_steps_aside_for_the_compiler() -> None:
    leaves = [part.requires_grad_() for part in drawn((4, 8, 197, 384), torch.float32, DEVICE)]

    def merged(y: torch.Tensor, channel: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
        return merge.branch_sum(y, channel * merge.branch_means(y).sigmoid(), gates)

    runs = []
    for _ in range(2):
        out = merged(*leaves)
        runs.append((out, *torch.autograd.grad(out.square().sum(), leaves)))
    assert all(torch.equal(first, second) for first, second in zip(*runs, strict=True))
    compiled = torch.compile(merged, fullgraph=True)
    torch.testing.assert_close(compiled(*leaves), runs[0][0], rtol=1e-4, atol=1e-4)


def test_gradients_are_deterministic() -> None:
    """No kernel uses atomics: two runs agree in every bit."""
    arguments = layer_arguments(PUBLISHED_SIZES[0], 8, torch.bfloat16)
    inputs = [tensor.requires_grad_() for tensor in tensors_of(arguments).values()]
    runs = []
    for _ in range(2):
        y = selective_scan(**arguments, backend="cuda")
        runs.append((y, *torch.autograd.grad(y, inputs, torch.ones_like(y))))
    assert all(torch.equal(first, second) for first, second in zip(*runs, strict=True))


def test_registered_operation_passes_torchs_checks() -> None:
    arguments = moved(ScanCase(rank=2, dtype=torch.float32, read="order").arguments()[0])
    leaves = [tensor.requires_grad_() for tensor in tensors_of(arguments).values()]
    assert leaves
    from scansearch_kernels import calls

    names = (
        "u", "delta", "A", "B", "C", "D", "z", "delta_bias", "delta_softplus", "read_order", "write_order",
        "lengths", "image_length",
    )  # fmt: skip
    call = calls.check_scan(*(arguments.get(name) for name in names))
    torch.library.opcheck(ops.scan, (*ops.flat(call), True))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", ["localvim_tiny", "localvim_tiny_search", "localvmamba_tiny"])
def test_a_whole_model_under_autocast(name: str, compiled: bool) -> None:
    import timm

    import scansearch.models

    assert scansearch.models is not None
    model = timm.create_model(name, num_classes=10).to(DEVICE).eval()
    run = torch.compile(model) if compiled else model
    images = torch.randn(2, 3, 224, 224, device=DEVICE)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        loss = run(images).float().square().mean()
    loss.backward()
    with torch.autocast(DEVICE, enabled=False):
        exact = model(images).square().mean()
    assert torch.allclose(loss, exact, rtol=0.1)
    assert all(torch.isfinite(entry.grad).all() for entry in model.parameters() if entry.grad is not None)


def random_case(draw: random.Random) -> ScanCase:
    """Any call that the contract allows, small."""
    directions = draw.randint(1, 5)
    rows = draw.choice([1, 2, 7, 16, 17, 63, 64, 65, 130])
    lengths = tuple(draw.randint(0, rows) for _ in range(directions)) if draw.random() < 0.3 else None
    return ScanCase(
        batch=draw.randint(1, 3),
        directions=directions,
        rows=rows,
        dim=draw.choice([1, 5, 31, 32, 33, 64, 96, 130]),
        states=draw.choice([1, 2, 3, 8, 16, 24]),
        rank=draw.choice([0, 1, 6, 16, 17]),
        shared_u=draw.random() < 0.5,
        skip=draw.random() < 0.8,
        gate=draw.random() < 0.5,
        bias=draw.random() < 0.8,
        read=draw.choice(["none", "order", "padded"]),
        write=draw.choice(["same", "order"]),
        lengths=lengths,
        dtype=torch.float32,
        seed=draw.randrange(1 << 30),
    )


@pytest.mark.long
@pytest.mark.parametrize("part", range(10))
def test_a_thousand_random_calls(part: int) -> None:
    draw = random.Random(part)
    for _ in range(100):
        case = random_case(draw)
        try:
            compare(moved(case.arguments()[0]), exact=True, dtype=torch.float32)
        except AssertionError as error:
            raise AssertionError(f"{case}: {error}") from error
