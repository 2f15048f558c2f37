"""The benchmark of the standalone scan compares before it times, and gives no ratio for a wrong one."""

from __future__ import annotations

import pytest
import torch
from scansearch_kernels.bench.cases import Size

from scansearch.bench import standalone
from scansearch.cli import main
from scansearch.errors import InputError
from scansearch.exporting.templates import shared


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standalone, "SIZES", {"small": Size(2, 25, 16, 4, 3, False)})


def test_both_scans_agree_and_the_ratio_is_that_of_their_times() -> None:
    rows = standalone.bench_standalone(["small"], repeats=2)
    assert [row.computes for row in rows] == ["forward", "forward+backward"]
    for row in rows:
        assert row.difference < 1e-5
        assert row.ratio == pytest.approx(row.standalone_ms / row.kernel_ms)
        assert "times the kernel" in " ".join(standalone.cells(row))


def test_a_wrong_scan_gets_no_ratio(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    right = shared.selective_scan

    def wrong(u: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        return right(1.001 * u, *others)

    monkeypatch.setattr(shared, "selective_scan", wrong)
    with pytest.raises(SystemExit) as stop:
        main(["bench", "standalone", "--size", "small", "--repeats", "1"])
    assert stop.value.code == 1
    assert capsys.readouterr().out.count("no ratio: they disagree") == 2


def test_an_unknown_size_names_those_there_are() -> None:
    with pytest.raises(InputError, match="size must be one of small, not 'huge'"):
        standalone.bench_standalone(["huge"])
