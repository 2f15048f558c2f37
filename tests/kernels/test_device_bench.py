"""The device benchmark end to end on the CPU, and its refusal to time a kernel that is wrong."""

import json

import pytest
import torch
from scansearch_kernels.bench import device as device_bench
from scansearch_kernels.bench import merge as merge_bench
from scansearch_kernels.bench import rates
from scansearch_kernels.bench.published_sizes import LayerSize

SMALL = (
    LayerSize("own tokens", 2, 49, 49, 16, 3, True, states=4, merges=((True, True),)),
    LayerSize("shared tokens", 2, 49, 49, 16, 3, False, states=4),
)


def test_every_size_is_measured_beside_its_floor_and_the_reference() -> None:
    told: list[str] = []
    found = device_bench.bench(
        "cpu", 2, torch.float32, SMALL, repeats=1, baseline_batch=1, quick=True, tell=told.append
    )
    assert len(told) == len(found["sizes"]) == 2
    assert json.loads(json.dumps(found)) == found
    assert all(rate > 0 for rate in found["rates"].values())
    for row in found["sizes"]:
        assert row["correct"]
        assert row["forward_ms"] > 0
        assert row["both_over_floor"] == pytest.approx(row["both_ms"] / row["both_floor_ms"])
        assert row["times_faster_than_reference"] == pytest.approx(row["reference_both_ms"] / row["both_ms"])
        assert row["w7_over_h"] == pytest.approx(row["w7_both_ms"] / row["both_ms"])
        assert row["merge_correct"]
        assert row["merge_over_floor"] == pytest.approx(row["merge_ms"] / row["merge_floor_ms"])
    assert all("merge" in line and "WRONG" not in line for line in told)


def test_a_wrong_kernel_gets_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    run = device_bench.run
    monkeypatch.setattr(
        device_bench, "run", lambda arguments, backend: run(arguments, backend) * (1 + (backend is None))
    )
    found = device_bench.bench("cpu", 1, torch.float32, SMALL[:1], repeats=1, quick=True)
    (row,) = found["sizes"]
    assert not row["correct"]
    assert "both_ms" not in row
    assert "WRONG" in device_bench.line(row)


def test_a_wrong_merge_gets_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    means, total = merge_bench.FUSED
    monkeypatch.setattr(merge_bench, "FUSED", (means, lambda *parts: 2 * total(*parts)))
    found = merge_bench.merge_times(SMALL[0], 2, torch.float32, "cpu", 1e9, 1e-4, 1)
    assert not found["merge_correct"]
    assert "merge_ms" not in found


def test_the_window_order_is_the_projects_own() -> None:
    from scansearch.directions import stack_orders

    ours = device_bench.window_order(14, 7)
    orders, _ = stack_orders(("w7",), 14, 14, "skip")
    assert ours.tolist() == orders[0].tolist()


def test_floors_follow_the_work() -> None:
    rates = {"exponentials": 1e12, "multiply_adds": 8e12, "bytes": 1e15}
    size = LayerSize("work", 4, 100, 100, 32, 2, True)
    work = 5 * 4 * 100 * 32 * 16
    found = device_bench.floors(size, 5, torch.bfloat16, rates)
    assert found["forward_floor_ms"] == pytest.approx(1e3 * work / 1e12)
    assert found["both_floor_ms"] == pytest.approx(1e3 * (work / 1e12 + 16 * work / 8e12))


def test_the_rate_kernels_compile_without_spills() -> None:
    report = pytest.importorskip("scansearch_kernels.bench.compile_report")
    for exponentials in (True, False):
        found = report.compile_variant(rates.busy_launch("meta", 1, 4096, exponentials))
        assert found.spill_stores == 0
