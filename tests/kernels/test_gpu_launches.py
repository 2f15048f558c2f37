"""What is known of the GPU kernels' launches without a GPU: arguments, offsets, versions, capture, caches."""

import itertools
import re

import pytest
import torch
from support.scan_cases import random_order

triton = pytest.importorskip("triton")

from scansearch_kernels import calls  # noqa: E402
from scansearch_kernels.bench import compile_report  # noqa: E402
from scansearch_kernels.bench.published_sizes import PUBLISHED_SIZES, LayerSize  # noqa: E402
from scansearch_kernels.gpu import backend, launch, plan  # noqa: E402

SIZES = [*PUBLISHED_SIZES, LayerSize("1024 x 1024", 4, 65536, 65536, 192, 6, False)]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: size.name)
def test_every_launch_passes_exactly_what_its_kernel_takes(size: LayerSize) -> None:
    """The interpreter and the compiler ignore what a kernel does not take; the launcher of a device does not."""
    names = set()
    for batch, dtype, train in itertools.product(
        (1, 2, 14, 29, 128), (torch.bfloat16, torch.float16, torch.float32, torch.float64), (True, False)
    ):
        for entry in compile_report.launches_of(size, batch, dtype, train):
            given = [*entry.arguments, *entry.constants]
            assert len(given) == len(set(given)), entry.kernel.__name__
            assert set(given) == set(entry.kernel.arg_names), (entry.kernel.__name__, batch, dtype, train)
            names.add(entry.kernel.__name__)
    assert {"scan_forward", "scan_backward", "reduce_tiles"} <= names
    if size.steps >= 784:
        assert {"chain_segments", "scan_adjoint_summary"} <= names


def test_an_argument_too_many_would_be_seen() -> None:
    """The fault that this file is for: the adjoint summary was given `starts`."""
    entries = compile_report.launches_of(SIZES[-1], 1, torch.bfloat16, True)
    summary = next(entry for entry in entries if entry.kernel.__name__ == "scan_adjoint_summary")
    assert "starts" not in summary.arguments
    assert "starts" not in summary.kernel.arg_names
    assert "ends" in summary.arguments


@pytest.mark.slow
def test_the_parts_of_two_gradients_are_apart_by_a_64_bit_offset() -> None:
    """1024 x 1024 images, batch 128: the parts of dB take 2^31 elements and more."""
    size = LayerSize("large", 4, 65536, 65536, 256, 6, False)
    tiles, lanes = 256 // 64, 128 * size.directions
    assert tiles * lanes * size.states * size.steps >= 2**31
    entries = compile_report.launches_of(size, 128, torch.bfloat16, True)
    backward = next(entry for entry in entries if entry.kernel.__name__ == "scan_backward")
    code = compile_report.build(backward).asm["ttir"]
    products = re.findall(r"%C_part\w* = arith.muli .* : (\w+)", code)
    assert products
    assert set(products) == {"i64"}


@pytest.mark.parametrize(("rows", "stride"), [(2**20, 2**12), (3, 2**31)])
def test_rows_that_span_32_bits_are_copied(rows: int, stride: int) -> None:
    made = torch.empty(1, device="meta").as_strided((1, 1, rows, 8), (0, 0, stride, 1))
    assert launch.addressable(made).stride(2) == 8
    near = torch.empty(1, device="meta").as_strided((1, 1, rows, 8), (0, 0, 16, 1))
    assert launch.addressable(near) is near


@pytest.mark.parametrize("version", ["3.3.1", "2.3.0"])
def test_an_old_triton_is_a_clear_reason_to_fall_back(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton, "__version__", version)
    with pytest.raises(RuntimeError, match=rf"needs Triton 3\.4 or newer .*, found {version}"):
        backend.available()


def test_without_knobs_nothing_is_interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(triton, "knobs")
    assert not launch.interpreted()


@pytest.mark.parametrize("version", ["3.4.0", "3.6.0", "3.10.0", "4.0.0+git1"])
def test_newer_versions_are_taken(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton, "__version__", version)
    monkeypatch.setattr(backend, "interpreted", lambda: True)
    backend.available()


class Untouchable(Exception):
    """Raised by a stub of what would wait for a captured stream."""


def test_an_order_is_not_waited_for_while_a_stream_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    order = random_order(torch.Generator().manual_seed(0), 2, 5, 5)

    def touched(*_: object) -> None:
        raise Untouchable

    monkeypatch.setattr(calls, "capturing", lambda device: True)
    with monkeypatch.context() as patched:
        patched.setattr(torch.Tensor, "aminmax", touched)
        calls.check_order("read_order", order, order.device, 5)
    monkeypatch.setattr(calls, "capturing", lambda device: False)
    with pytest.raises(ValueError, match="indices from -1 to 2"):  # the capture did not count as a check
        calls.check_order("read_order", order, order.device, 3)


def test_one_order_with_two_limits_is_sorted_once_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    order = random_order(torch.Generator().manual_seed(0), 2, 5, 5)
    for limit in (5, 7):
        calls.check_order("read_order", order, order.device, limit)

    def touched(*_: object, **__: object) -> None:
        raise Untouchable

    monkeypatch.setattr(torch.Tensor, "sort", touched)
    for limit in (5, 7, 5):
        calls.check_order("read_order", order, order.device, limit)
    order[0, 0] = order[0, 1]
    with pytest.raises(Untouchable):
        calls.check_order("read_order", order, order.device, 5)


def test_lengths_are_not_copied_from_the_host_while_a_stream_is_captured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def copied(*_: object, **__: object) -> None:
        raise Untouchable

    device = torch.device("cpu")
    monkeypatch.setattr(launch, "_lengths", {})
    with monkeypatch.context() as patched:
        patched.setattr(torch, "tensor", copied)
        assert launch.lengths_on((4, 4), device).tolist() == [4, 4]
        patched.setattr(launch, "capturing", lambda device: True)
        assert launch.lengths_on((4, 2, 0), device).tolist() == [4, 2, 0]
    assert list(launch._lengths) == [((4, 4), device, 0)]  # the graph's memory is not kept
    assert launch.lengths_on((4, 2, 0), device).tolist() == [4, 2, 0]


def test_parameters_are_prepared_once_per_version(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, made = torch.ones(3), []

    def make() -> int:
        made.append(1)
        return len(made)

    assert [launch.prepared(weight, "a", make) for _ in range(3)] == [1, 1, 1]
    assert launch.prepared(weight, "b", make) == 2
    weight.add_(1)
    assert launch.prepared(weight, "a", make) == 3
    monkeypatch.setattr(launch, "capturing", lambda device: True)
    assert launch.prepared(weight, "a", make) == 4
    monkeypatch.setattr(launch, "capturing", lambda device: False)
    assert launch.prepared(weight, "a", make) == 3
    key = id(weight)
    del weight
    assert not [entry for entry in launch._prepared if entry[0] == key]


@pytest.mark.parametrize(
    ("programs", "registers"),
    [(1000, None), (1056, None), (1536, 168), (1584, 168), (3072, None), (6144, None)],
)
def test_registers_are_bounded_where_that_saves_enough_waves(programs: int, registers: int | None) -> None:
    assert plan.backward_registers(programs, torch.device("cpu")) == registers
