"""The benchmark: measures what it says, and gives no ratio for a wrong kernel or on a disturbed machine."""

import json
from dataclasses import asdict

import pytest
import torch
from scansearch_kernels.bench import cases as bench_cases
from scansearch_kernels.bench import cpu as bench
from scansearch_kernels.bench import opponents
from scansearch_kernels.bench import threads as bench_threads
from scansearch_kernels.bench.cases import SIZES, Size, orders
from scansearch_kernels.bench.floor import Floor

SMALL = {
    "small": Size(2, 49, 20, 4, 8, False),
    "small_shared": Size(1, 49, 20, 3, 1, True),
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SIZES", SMALL)


@pytest.mark.usefixtures("small")
def test_rows_hold_time_floor_errors_and_baselines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Floor, "plausible", lambda self: True)  # whatever else this machine does
    monkeypatch.setattr(opponents, "available", lambda: {"loop": opponents.loop})
    rows = bench.kernels(repeats=2, memory=False)
    assert [(row.size, row.computes) for row in rows] == [
        (name, which) for name in SMALL for which in ("forward", "forward+backward")
    ]
    for row in rows:
        assert row.refused is None
        assert row.floor_ratio == pytest.approx(row.ours_ms / row.floor_ms)
        assert row.floor_ms == pytest.approx(1e3 * SMALL[row.size].work() / row.machine.floor_steps_per_s)
        assert row.output_error < 2e-6
        assert row.gradient_error < 1e-5
        assert row.strongest() == ("loop", row.opponents["loop"])
        assert row.opponents["loop"].ratio > 0
        ways = row.threads_ms
        assert (ways is None) == (row.computes == "forward")
        assert ways is None or (ways.keys() == {"one", "all", "callers"} and min(ways.values()) > 0)
    assert json.loads(json.dumps([asdict(row) for row in rows]))[0]["opponents"]["loop"]["difference"] < 1e-5
    assert "loop " in bench.table(rows)
    assert "small_shared" in bench.table(rows)
    assert "Python threads at once" in bench.table(rows)


@pytest.mark.usefixtures("small")
def test_a_wrong_kernel_gets_no_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    right = bench_cases.selective_scan

    def wrong(*args, **kwargs):
        y = right(*args, **kwargs)
        return y * 1.001 if kwargs.get("backend") == "cpu" else y

    monkeypatch.setattr(bench_cases, "selective_scan", wrong)
    rows = bench.kernels(["small"], repeats=1, memory=False)
    assert all(row.floor_ratio is None and "the kernel is wrong" in row.refused for row in rows)
    assert not any(row.opponents for row in rows), "a ratio to something wrong says nothing"
    assert "no ratio" in bench.table(rows)


@pytest.mark.usefixtures("small")
def test_a_disturbed_floor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(self: Floor) -> None:
        self.steps_per_s, self.multiply_adds_per_s, self.bytes_per_s = 19e9, 256e9, 1e9

    monkeypatch.setattr(Floor, "measure", measure)
    rows = bench.kernels(["small"], repeats=1, memory=False, baselines=False)
    assert all(row.floor_ratio is None and "implausible" in row.refused for row in rows)


def test_floor_stays_below_a_ninth_of_the_multiply_adds() -> None:
    floor = Floor()
    for _ in range(5):
        floor.measure()
    assert 0 < floor.steps_per_s < floor.multiply_adds_per_s or not floor.plausible()


def test_an_unknown_size_is_one_clear_line() -> None:
    with pytest.raises(ValueError, match=r"size must be one of vim_k4, .*, got 'huge'"):
        bench.kernels(["huge"])


@pytest.mark.parametrize("name", SIZES)
def test_orders_of_the_benchmark_visit_every_row_once(name: str) -> None:
    size = SIZES[name]
    table = orders(size.rows, size.directions)
    assert table.shape == (size.directions, size.rows)
    assert torch.equal(table.sort(dim=1).values, torch.arange(size.rows, dtype=torch.int32).expand_as(table))


COMPILED = pytest.param("compiled chunks", marks=pytest.mark.long)


@pytest.mark.parametrize("name", ["loop", "mambapy", "JAX", COMPILED])
def test_an_opponent_computes_the_same(name: str) -> None:
    scans = opponents.available()
    if name not in scans:
        pytest.skip(f"{name} cannot run here")
    for size in SMALL.values():
        times = opponents.compare(size, rounds=1, scans={name: scans[name]})
        for which in opponents.PASSES:
            assert times[which][name].difference < 1e-5
            assert times[which][name].ratio > 0


@pytest.mark.parametrize(
    "wrong", [lambda y: 1.001 * y, lambda y: y / torch.zeros(())], ids=["by little", "not finite"]
)
def test_an_opponent_that_differs_gets_no_ratio(wrong) -> None:
    scans = {"wrong": lambda *inputs: wrong(opponents.loop(*inputs))}
    times = opponents.compare(SMALL["small"], rounds=1, scans=scans)
    for which in opponents.PASSES:
        assert times[which]["wrong"].ratio is None
        assert times[which]["wrong"].ms > 0


def test_the_threads_of_torch_are_given_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        bench_threads.threads_ms(SMALL["small"], 1)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_ratios_of_threads_are_to_one_thread() -> None:
    text = bench_threads.line({"one": 30.0, "all": 20.0, "callers": 60.0}, 2)
    assert "2 threads 20.00 ms (1.50x)" in text
    assert "at once 60.00 ms a call (0.50x)" in text
