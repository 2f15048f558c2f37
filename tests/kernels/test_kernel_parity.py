"""The op against the mathematics of the released code, in float64 tensors recorded outside this repository."""

import json
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from scansearch_kernels import available_backends, causal_conv, selective_scan
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("SCANSEARCH_PARITY_DIR", ROOT / "../shared/reference/parity"))
RECORDS = [(path, json.loads(path.read_text())) for path in sorted(FOLDER.glob("*.json"))]
BACKENDS = [name for name in available_backends() if name in ("reference", "cpu")]


def recorded(kind: str) -> list[tuple[dict, dict[str, Tensor]]]:
    found = [
        (record, path) for path, record in RECORDS if isinstance(record, dict) and record.get("op") == kind
    ]
    if not found:
        pytest.skip(f"no parity record of kind {kind} in {FOLDER} (set SCANSEARCH_PARITY_DIR)")
    return [(record, load_file(path.with_suffix(".safetensors"))) for record, path in found]


def close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-10 * max(1.0, float(theirs.abs().max()))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("variant", ["full", "no_z", "plain"])
def test_scan_equals_the_recorded_selective_scan(variant: str, backend: str) -> None:
    for record, tensors in recorded("selective_scan"):
        groups = record["dims"]["groups"] if variant != "plain" else 1
        given = {name[3:]: tensor for name, tensor in tensors.items() if name.startswith("in/")}
        if variant != "full":
            del given["z"]
        if variant == "plain":
            del given["D"], given["delta_bias"]
            given["delta"] = given["delta"].abs()
            given["B"], given["C"] = given["B"][:, :1], given["C"][:, :1]
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in given.items()}

        def split(
            tensor: Tensor, groups: int = groups
        ) -> Tensor:  # [batch, D, L] -> [batch, groups, L, D/groups]
            return tensor.unflatten(1, (groups, -1)).transpose(2, 3)

        def per_channel(name: str, leaves: dict = leaves, groups: int = groups) -> Tensor | None:
            return leaves[name].unflatten(0, (groups, -1)) if name in leaves else None

        y = selective_scan(
            split(leaves["u"]),
            split(leaves["delta"]),
            leaves["A"].unflatten(0, (groups, -1)),
            leaves["B"].transpose(2, 3),
            leaves["C"].transpose(2, 3),
            per_channel("D"),
            delta_bias=per_channel("delta_bias"),
            delta_softplus=variant != "plain",
            backend=backend,
        )
        y = y.transpose(2, 3).flatten(1, 2)
        if "z" in leaves:
            y = y * F.silu(leaves["z"])
        close(y, tensors[f"{variant}/out"])
        y.backward(tensors["dout"])
        for name, leaf in leaves.items():
            theirs = tensors[f"{variant}/grad_{name}"]
            if variant == "plain" and name in "BC":
                theirs = theirs[:, :1]
            if (
                variant == "plain" and name == "delta"
            ):  # recorded for the signed input, taken here behind abs()
                theirs = theirs * tensors["in/delta"].sign()
            close(leaf.grad, theirs)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("low_rank", [True, False])
def test_convolution_and_scan_equal_the_recorded_mixer(low_rank: bool, backend: str) -> None:
    for _, tensors in recorded("mamba_inner_no_out_proj"):
        leaves = {
            name[3:]: t.clone().requires_grad_() for name, t in tensors.items() if name.startswith("in/")
        }
        rank, states = leaves["dt_proj_weight"].shape[1], leaves["A_log"].shape[1]
        x, z = leaves["xz"].transpose(1, 2).chunk(2, dim=-1)
        x = causal_conv(x, leaves["conv_weight"].transpose(0, 1), leaves["conv_bias"][None], backend=backend)
        delta, B, C = (x @ leaves["x_proj_weight"].T).split([rank, states, states], dim=-1)
        weight = leaves["dt_proj_weight"][None]
        y = selective_scan(
            x,
            (delta, weight) if low_rank else delta @ weight[0].T,
            -torch.exp(leaves["A_log"])[None],
            B,
            C,
            leaves["D"][None],
            z,
            leaves["dt_proj_bias"][None],
            backend=backend,
        )
        y = y[:, 0].transpose(1, 2)
        close(y, tensors["out"])
        y.backward(tensors["dout"])
        for name, leaf in leaves.items():
            close(leaf.grad, tensors[f"grad_{name}"])
