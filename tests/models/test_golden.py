"""Outputs and gradients of small models do not change.

The values in golden.json were made by this project's own models, once those had been shown equal to the released
ones, so a clone without the released fixtures is protected too. `python tests/models/test_golden.py` rewrites
them: do that only where a change of the numbers is the intention.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scansearch_kernels import available_backends
from torch import Tensor

from scansearch.models import build_model
from scansearch.models.backbone import ScanBackbone
from scansearch.models.published import CANDIDATES

FILE = Path(__file__).with_name("golden.json")
BACKENDS = [name for name in ("reference", "cpu") if name in available_backends()]
LAYERS = (("h", "v_flip", "w7", "w2_flip"), ("h_flip", "v", "w2"), ("w7_flip", "w3"))
RELEASED = {"window_padding": "zero", "dt_init": "released"}
VIM = {"img_size": 28, "patch_size": 4, "embed_dim": 16, "states": 4, "num_classes": 5}
VMAMBA = {"dims": (8, 16), "depths": (1, 2), "patch_size": 2, "img_size": 28, "states": 4, "num_classes": 5}
SUPERNET = (CANDIDATES, ("h", "w5", "v_flip"))

# name: family, directions, arguments, height and width of the images
CASES: dict[str, tuple[str, Any, dict[str, Any], tuple[int, int]]] = {
    "local_vim": ("local_vim", LAYERS, VIM, (28, 28)),
    "local_vim_released": ("local_vim", LAYERS, VIM | RELEASED | {"rope_resize": "tables"}, (36, 36)),
    "local_vim_middle": (
        "local_vim",
        LAYERS,
        VIM | RELEASED | {"class_token": "middle", "rope": False},
        (28, 28),
    ),
    "local_vim_oblong": ("local_vim", LAYERS, VIM, (20, 44)),
    "local_vim_layer_norm": (
        "local_vim",
        LAYERS,
        VIM
        | {"norm": "layer", "merge": "mean", "rope_residual": False, "branch_attention": "channel+spatial"},
        (28, 28),
    ),
    "local_vim_supernet": ("local_vim", SUPERNET, VIM | RELEASED | {"weighted": True}, (28, 28)),
    "vim": (
        "local_vim",
        (("h", "h_flip"),) * 2,
        VIM | {"class_token": "middle", "rope": False, "branch_attention": "none", "merge": "mean"},
        (28, 28),
    ),
    "local_vmamba": ("local_vmamba", LAYERS, VMAMBA, (28, 28)),
    "local_vmamba_released": ("local_vmamba", LAYERS, VMAMBA | RELEASED, (18, 30)),
    "local_vmamba_supernet": (
        "local_vmamba",
        SUPERNET,
        VMAMBA | RELEASED | {"weighted": True, "depths": (1, 1)},
        (28, 28),
    ),
    "vmamba": (
        "local_vmamba",
        (("h", "h_flip", "v", "v_flip"),) * 3,
        VMAMBA | {"branch_attention": "none"},
        (28, 28),
    ),
}


def random(name: str, *shape: int) -> np.ndarray:
    return np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF).standard_normal(shape)


def made(name: str) -> ScanBackbone:
    """The model of a case in float64, its weights a function of their names alone."""
    family, layers, arguments, _ = CASES[name]
    model = build_model(family, layers, **arguments).double()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            z, last, shape = random(key, *parameter.shape), key.rpartition(".")[2], parameter.shape
            if last == "A_log":
                value = np.log(np.arange(1, shape[-1] + 1)) + 0.3 * z
            elif last == "D" or (last == "weight" and len(shape) == 1):
                value = 1 + 0.3 * z
            elif last == "dt_bias":
                value = -2 + z
            elif last in ("alpha", "pos_embed", "cls_token"):
                value = 0.5 * z
            elif last in ("bias", "conv_bias"):
                value = 0.2 * z
            else:
                value = 1.2 * z / np.sqrt(np.prod(shape[1:]) if len(shape) != 3 else shape[-1])
            parameter.copy_(torch.from_numpy(value))
    return model.eval()


def outcome(model: ScanBackbone, name: str) -> dict[str, list[float]]:
    """Logits, four numbers of every feature map, and those of the gradients of the input and the first mixer."""
    dtype = next(model.parameters()).dtype
    image = torch.from_numpy(random(name, 2, 3, *CASES[name][3])).to(dtype).requires_grad_()
    logits = model(image)
    maps = model.forward_intermediates(image, intermediates_only=True)
    weight = torch.from_numpy(random("loss", *logits.shape)).to(dtype)
    model.zero_grad()
    (logits * weight).sum().backward()
    found = {"logits": logits.flatten().tolist(), "grad input": numbers(image.grad)}
    found |= {f"map {index}": numbers(found) for index, found in enumerate(maps)}
    for key, parameter in model.mixers[0].named_parameters():
        found[f"grad {key}"] = numbers(parameter.grad)
    return found


def numbers(tensor: Tensor | None) -> list[float]:
    """A random projection, to which every element contributes, the root mean square, and two elements."""
    assert tensor is not None
    flat = tensor.detach().double().flatten()
    projection = (flat * torch.from_numpy(random("projection", len(flat)))).mean()
    return [
        projection.item(),
        flat.square().mean().sqrt().item(),
        flat[len(flat) // 3].item(),
        flat[-1].item(),
    ]


@pytest.mark.smoke
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.float64, 1e-9), (torch.float32, 1e-4)], ids=["f64", "f32"]
)
@pytest.mark.parametrize("name", CASES)
def test_golden_values(
    name: str, dtype: torch.dtype, limit: float, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANSEARCH_BACKEND", backend)
    wanted = json.loads(FILE.read_text())[name]
    found = outcome(made(name).to(dtype), name)
    assert found.keys() == wanted.keys()
    for key, values in wanted.items():
        scale = max(map(abs, values))
        np.testing.assert_allclose(found[key], values, rtol=0, atol=limit * scale, err_msg=key)


if __name__ == "__main__":
    table = {name: outcome(made(name), name) for name in CASES}
    FILE.write_text(json.dumps(table, indent=1) + "\n")
