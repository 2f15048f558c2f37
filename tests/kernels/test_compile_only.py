"""The GPU kernels compile for sm_90 without a GPU, and no forward spills unless its registers are bounded."""

import dataclasses
import json
import subprocess
import sys

import pytest
import timm
import torch

import scansearch.models
from scansearch.models import merge as merging
from scansearch.models import mixers
from scansearch.models.published import PUBLISHED

triton = pytest.importorskip("triton")

from scansearch_kernels.bench import compile_report  # noqa: E402
from scansearch_kernels.bench.published_sizes import PUBLISHED_SIZES, LayerSize  # noqa: E402
from scansearch_kernels.gpu import plan as gpu_plan  # noqa: E402

assert scansearch.models is not None  # registers the published models


def sizes_of_the_models(monkeypatch: pytest.MonkeyPatch) -> tuple[set[tuple], set[tuple]]:
    """What the published models at 224 ask of the scan and of the merge, seen by running them without data."""
    seen, merged, attended = set(), set(), []

    def scan(u, delta, A, B, C, D=None, **named):
        convolved = named.get("z") is not None
        order = named["write_order"] if convolved else named["read_order"]
        directions, dim, states = A.shape
        assert (u.shape[1] == directions) if convolved else (u.shape[1] == 1)
        seen.add((directions, u.shape[2], order.shape[1], dim, delta[1].shape[2], convolved, states))
        length = named["z"].shape[1] if convolved else named["image_length"]
        assert length == u.shape[2]
        return u.new_empty(u.shape[0], directions, length, dim)

    def conv(x, weight, bias, *, read_order, lengths):
        assert weight.shape[2] == 4
        return x.new_empty(x.shape[0], weight.shape[0], read_order.shape[1], weight.shape[1])

    def means(y):
        attended.append(tuple(y.shape))
        return y.new_empty(y.shape[0], y.shape[1], y.shape[3])

    def merge(y, channel=None, gates=None):
        assert (channel is not None) == (tuple(y.shape) in attended)
        attended.clear()
        merged.add((*y.shape[1:], channel is not None, gates is not None))
        return y.new_empty(y.shape[0], y.shape[2], y.shape[3])

    monkeypatch.setattr(merging, "branch_means", means)
    monkeypatch.setattr(merging, "branch_sum", merge)
    monkeypatch.setattr(mixers, "selective_scan", scan)
    monkeypatch.setattr(mixers, "causal_conv", conv)
    for name in PUBLISHED:
        with torch.device("meta"):
            timm.create_model(name)(torch.empty(1, 3, 224, 224))
    return seen, merged


def test_the_table_of_sizes_is_that_of_the_published_models(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {
        (size.directions, size.tokens, size.steps, size.dim, size.rank, size.convolved, size.states)
        for size in PUBLISHED_SIZES
    }
    merges = {
        (size.directions, size.tokens, size.dim, *merge) for size in PUBLISHED_SIZES for merge in size.merges
    }
    scans_seen, merges_seen = sizes_of_the_models(monkeypatch)
    assert table == scans_seen
    assert merges == merges_seen


def describe(found: compile_report.Compiled) -> str:
    return json.dumps(found.to_dict())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["localvim_tiny", "localvmamba stage 4"])
@pytest.mark.parametrize("train", [True, False])
def test_a_layers_kernels_compile_for_sm_90_without_forward_spills(name: str, train: bool) -> None:
    size = next(size for size in PUBLISHED_SIZES if size.name == name)
    launches = compile_report.variants(compile_report.launches_of(size, 128, torch.bfloat16, train))
    for launch in launches:
        found = compile_report.compile_variant(launch)
        assert 0 < found.registers <= (launch.registers or 255)
        if (
            "forward" in found.kernel and launch.registers is not None
        ):  # a bound was measured to be worth its spills
            found = compile_report.compile_variant(dataclasses.replace(launch, registers=None))
        if "forward" in found.kernel:
            assert found.spill_stores == found.spill_loads == 0, describe(found)
    assert any("backward" in launch.kernel.__name__ for launch in launches) == train


def test_a_spill_would_be_seen() -> None:
    """Far more states than registers must show up as spills, or the check above checks nothing."""
    size = LayerSize("too much", 1, 16, 16, 64, 4, True, states=64)
    call = size.scan_call(1, torch.bfloat16)
    launches, _, _ = gpu_plan.plan_forward(call, False, gpu_plan.Tuning(tile=64, segments=1))
    assert compile_report.compile_variant(launches[0]).spill_stores > 0


@pytest.mark.smoke
def test_one_image_is_split_into_segments_and_a_batch_is_not() -> None:
    large = LayerSize("1024 x 1024, stage 1", 4, 65536, 65536, 192, 6, False)

    def kernels(batch: int) -> list[str]:
        launches = compile_report.launches_of(large, batch, torch.bfloat16, train=True)
        return [launch.kernel.__name__ for launch in launches]

    assert kernels(1)[:3] == ["scan_forward", "chain_segments", "scan_forward"]
    assert "scan_adjoint_summary" in kernels(1)
    assert kernels(128)[:4] == ["scan_forward", "scan_backward", "reduce_tiles", "reduce_tiles"]
    assert not any("segments" in name or "summary" in name for name in kernels(128))


@pytest.mark.long
def test_every_published_variant_compiles_without_forward_spills() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scansearch_kernels.bench", "--compile-only", "--arch", "90", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["count"] == len(found["kernels"]) == len(compile_report.published_variants())
    for entry in found["kernels"]:
        if entry["spill_stores"] and "forward" in entry["kernel"]:
            assert "maxnreg" in entry["variant"], entry
