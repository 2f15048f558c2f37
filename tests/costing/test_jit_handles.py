"""Scans are counted in a graph of torch.jit.trace, as fvcore walks it."""

from __future__ import annotations

import sys
import types
import warnings
from typing import Any

import pytest
import torch

from scansearch.costing.jit_handles import count_in_fvcore, jit_handles
from scansearch.models import LocalVim, LocalVMamba
from scansearch.models.backbone import ScanBackbone


def counts(model: ScanBackbone, images: torch.Tensor) -> dict[str, list[int]]:
    """What every operation of ours counts in the graph, by its name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        graph, _ = torch.jit._get_trace_graph(model.eval(), (images,))  # the one that fvcore walks
        torch._C._jit_pass_inline(graph)
    result: dict[str, list[int]] = {}
    for node in graph.nodes():
        name = node.kind()
        if name.startswith("scansearch::"):
            count = jit_handles()[name](list(node.inputs()), list(node.outputs()))
            result.setdefault(name.removeprefix("scansearch::"), []).append(count)
    return result


def test_scans_and_convolutions_of_a_plain_backbone() -> None:
    # 5 x 5 tokens; windows of 2 pad them to 6 x 6 where they are not skipped
    model = LocalVim(
        [("h", "w2"), ("v",)],
        img_size=20,
        patch_size=4,
        embed_dim=16,
        states=3,
        expand=2,
        window_padding="zero",
    )
    mixer = model.mixers[0]
    width, rank, taps = mixer.dim, mixer.dt_rank, mixer.conv_weight.shape[-1]
    found = counts(model, torch.randn(2, 3, 20, 20))
    steps = [25 + 36, 25]
    assert found["selective_scan"] == [2 * n * width * (9 * 3 + rank + 2) for n in steps]  # D and the gate
    assert found["causal_conv"] == [2 * n * width * taps for n in steps]
    assert sum(found["branch_sum"] + found.get("branch_means", [])) == 0


def test_scans_of_a_hierarchical_backbone() -> None:
    model = LocalVMamba(
        [("h", "w2"), ("v", "w3_flip")], dims=(8, 16), depths=(1, 1), patch_size=2, img_size=20, states=3
    )
    found = counts(model, torch.randn(2, 3, 20, 20))
    grids, mixers = (100, 25), model.mixers
    assert found["selective_scan"] == [
        2 * 2 * n * mixer.dim * (9 * 3 + mixer.dt_rank + 1) for n, mixer in zip(grids, mixers, strict=True)
    ]


def test_fvcore_takes_the_handles_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    class Analysis:
        def __init__(self, model: Any, inputs: Any) -> None:
            self.handles: dict[str, Any] = {}

        def set_op_handle(self, **handles: Any) -> Analysis:
            self.handles |= handles
            return self

    nn = types.ModuleType("fvcore.nn")
    nn.FlopCountAnalysis = Analysis  # type: ignore[attr-defined]
    package = types.ModuleType("fvcore")
    package.nn = nn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fvcore", package)
    monkeypatch.setitem(sys.modules, "fvcore.nn", nn)
    count_in_fvcore()
    assert set(nn.FlopCountAnalysis("model", "images").handles) == set(jit_handles())
