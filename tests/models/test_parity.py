"""Every model fixture of the released code: same outputs, same gradients, same parameters.

The folder is SCANSEARCH_PARITY_DIR, by default ../shared/reference/parity beside the checkout. A fixture's
kind is told by the keys of its JSON; one that cannot be built is a failure, not a skip.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scansearch_kernels import available_backends
from torch import Tensor, nn

from scansearch.models import LocalVim, LocalVMamba, build_model
from scansearch.models.backbone import ScanBackbone
from scansearch.models.checkpoints import from_released, to_released
from scansearch.models.published import CANDIDATES, LOCALVIM_UNSEARCHED, PUBLISHED

FOLDER = Path(
    os.environ.get("SCANSEARCH_PARITY_DIR", Path(__file__).parents[3] / "shared" / "reference" / "parity")
)
BACKENDS = [name for name in ("reference", "cpu", "cuda") if name in available_backends()]
RELEASED_NAMES = {
    "local_vim_tiny": "localvim_tiny",
    "local_vim_tiny_wo_search": "localvim_tiny_nosearch",
    "local_vim_tiny_middle_cls_token": "localvim_tiny_midcls",
    "local_vim_tiny_search": "localvim_tiny_search",
    "local_vim_small": "localvim_small",
    "local_vssm_tiny": "localvmamba_tiny",
    "local_vssm_small": "localvmamba_small",
    "local_vssm_tiny_search": "localvmamba_tiny_search",
    "local_vssm_small_search": "localvmamba_small_search",
}


def load_json(path: Path) -> Any:
    return json.loads(path.read_text())


def fixtures(kind: str) -> list[Any]:
    """The fixtures of one kind; where the folder is absent, one parameter that skips and says so."""
    if not FOLDER.is_dir():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"no parity fixtures at {FOLDER}"))]
    found = []
    for path in sorted(FOLDER.glob("*.json")):
        data = load_json(path)
        is_kind = isinstance(data, list) if kind == "names" else isinstance(data, dict) and kind in data
        if is_kind:
            found.append(pytest.param(path, id=path.stem))
    return found


def device_of(backend: str) -> torch.device:
    return torch.device("cuda" if backend == "cuda" else "cpu")


def share(found: Tensor, wanted: Tensor) -> float:
    """Largest difference as a share of the largest wanted value."""
    assert found.shape == wanted.shape
    found, wanted = found.detach().double().cpu(), wanted.double()
    scale = wanted.abs().max().item()
    return ((found - wanted).abs().max() / (scale or 1.0)).item()


def reference_model(data: dict[str, Any]) -> ScanBackbone:
    """Our model for a fixture's constructor, which holds keyword arguments of the released class."""
    arguments = dict(data["constructor"])
    arguments.pop("initializer_cfg", None)
    backbone = data["reference_class"].startswith("Backbone")
    out_indices = arguments.pop("out_indices", None)
    levels = tuple(out_indices) if backbone and out_indices is not None else ()
    known = vim_arguments(arguments) if data["family"] == "vim" else vssm_arguments(arguments)
    assert not arguments, (
        f"the fixture's constructor has arguments this test cannot build: {sorted(arguments)}"
    )
    depth = known.pop("depth") if data["family"] == "vim" else sum(known["depths"])
    directions = data["directions"]
    known["weighted"] = directions is None
    layers = [CANDIDATES] * depth if directions is None else directions
    assert len(layers) == depth
    family = "local_vim" if data["family"] == "vim" else "local_vmamba"
    if backbone:
        known["num_classes"] = 0
        known["feature_levels"] = levels
        if family == "local_vim":
            known["features"] = "released"
    model = build_model(family, layers, **known)
    if backbone:  # the released backbones have neither a final norm nor a head
        model.norm = nn.Identity()
    return model


def ssm_arguments(config: dict[str, Any]) -> dict[str, Any]:
    names = {"d_state": "states", "d_conv": "conv_width", "expand": "expand", "dt_rank": "dt_rank"}
    config = {key: value for key, value in config.items() if not (key == "dt_rank" and value == "auto")}
    return {names[key]: value for key, value in config.items()}


def vim_arguments(a: dict[str, Any]) -> dict[str, Any]:
    """Takes what it understands out of ``a``."""
    assert a.pop("bimamba_type", "v2") == "v2"
    assert a.pop("norm_epsilon", 1e-5) == 1e-5
    assert a.pop("pt_hw_seq_len", 14) == 14
    a.pop("residual_in_fp32", None)  # both are about the released code's own precision and kernels
    a.pop("fused_add_norm", None)
    a.pop("ft_seq_len", None)
    pools = {"mean": "avg", "none": "last", "all": ""}
    middle = a.pop("if_cls_token", False)
    assert a.pop("use_middle_cls_token", middle) == middle, "a class token in front is not supported"
    pool = pools[a.pop("final_pool_type", "none")]
    known = {
        "norm": "rms" if a.pop("rms_norm", False) else "layer",
        "global_pool": "token" if middle else pool,
        "class_token": "middle" if middle else "none",
        "position_embedding": a.pop("if_abs_pos_embed", False),
        "rope": a.pop("if_rope", False),
        "rope_residual": a.pop("if_rope_residual", False),
        "rope_resize": "tables",
        "window_padding": "zero",
        "dt_init": "released",
        "pos_drop_rate": a.pop("drop_rate", 0.0),
        "in_chans": a.pop("channels", 3),
        "depth": a.pop("depth", 24),
    }
    known |= ssm_arguments(a.pop("ssm_cfg", None) or {})
    for key in ("img_size", "patch_size", "embed_dim", "num_classes", "drop_path_rate"):
        if key in a:
            known[key] = a.pop(key)
    return known


def vssm_arguments(a: dict[str, Any]) -> dict[str, Any]:
    """Takes what it understands out of ``a``."""
    known: dict[str, Any] = {"window_padding": "zero", "dt_init": "released"}
    assert a.pop("patch_norm", True)
    assert a.pop("norm_layer", "LN").lower() == "ln"
    assert a.pop("ssm_act_layer", "silu") == "silu"
    assert a.pop("ssm_conv_bias", True)
    assert a.pop("ssm_drop_rate", 0.0) == 0.0
    a.pop("d_state", None)  # accepted and ignored by the released factories
    a.pop("use_checkpoint", None)
    a.pop("ssm_simple_init", None)
    a.pop("img_size", None)  # swallowed by the released class
    if a.get("ssm_dt_rank") == "auto":
        a.pop("ssm_dt_rank")
    depths = a.pop("depths", (2, 2, 9, 2))
    dims = a.pop("dims", (96, 192, 384, 768))
    known["dims"] = [dims * 2**stage for stage in range(len(depths))] if isinstance(dims, int) else dims
    known["depths"] = depths
    renamed = {"ssm_d_state": "states", "ssm_conv": "conv_width", "ssm_dt_rank": "dt_rank"}
    same = {key: key for key in ("patch_size", "in_chans", "num_classes", "ssm_ratio", "drop_path_rate")}
    for theirs, ours in (renamed | same).items():
        if theirs in a:
            known[ours] = a.pop(theirs)
    return known


@contextmanager
def recorded(model: ScanBackbone) -> Iterator[dict[str, Tensor]]:
    """Outputs inside the ``with`` body under the fixture's names."""
    seen: dict[str, Tensor] = {}
    hooks = []

    def watch(module: nn.Module, *names: str) -> None:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            outputs = output if isinstance(output, tuple) else (output,)
            seen.update(zip(names, outputs, strict=True))

        hooks.append(module.register_forward_hook(hook))

    watch(model.patch_embed, "patch_embed")
    if isinstance(model, LocalVim):
        for index, layer in enumerate(model.layers):
            watch(layer, f"block/{index}/hidden", f"block/{index}/residual")
    elif isinstance(model, LocalVMamba):
        for stage_index, stage in enumerate(model.stage_list()):
            for index, block in enumerate(stage.blocks):
                watch(block, f"block/{stage_index}.{index}")
            if stage.downsample is not None:
                watch(stage.downsample, f"downsample/{stage_index}")
    hooks.append(model.head.register_forward_pre_hook(lambda _m, inputs: seen.update(pooled=inputs[0])))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("path", fixtures("family"))
def test_small_model_equals_the_released_one(
    path: Path, dtype: torch.dtype, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANSEARCH_BACKEND", backend)
    data, tensors = load_json(path), load_file(path.with_suffix(".safetensors"))
    device, double = device_of(backend), dtype == torch.float64
    model = reference_model(data)
    state = {key[6:]: value.float() for key, value in tensors.items() if key.startswith("state/")}
    model.load_state_dict(from_released(model, state))
    if data.get("params") is not None:
        assert sum(p.numel() for p in model.parameters()) == data["params"]
    model = model.to(device, dtype).eval()
    image = tensors["input"].to(device, dtype).requires_grad_(bool(data["grads"]))
    backbone = "logits_f64" not in tensors

    with recorded(model) as seen:
        if backbone:
            outputs = model.forward_intermediates(
                image, data["constructor"]["out_indices"], intermediates_only=True
            )
            seen |= {f"feature/{index}": output for index, output in enumerate(outputs)}
        else:
            seen["logits"] = model(image)
            if data["grads"]:
                loss = (seen["logits"] * tensors["loss_weight"].to(device, dtype)).sum()
                loss.backward()
    seen["patch_embed"] = seen["patch_embed"].reshape(tensors.get("patch_embed", seen["patch_embed"]).shape)

    close, exact = 2e-5, 1e-9 if double else 2e-5
    compared = 0
    for name, wanted in tensors.items():
        if name.split("/")[0] in ("state", "grad", "input", "grad_input", "loss", "loss_weight"):
            continue
        ours = name.replace("_f64", "")
        assert share(seen[ours], wanted) < (exact if "_f64" in name else close), name
        compared += 1
    assert compared > 2
    if data["grads"]:
        limit = 1e-6 if double else 5e-4
        assert share(loss.reshape(1), tensors["loss"].reshape(1)) < (1e-9 if double else 1e-4)
        assert share(image.grad, tensors["grad_input"]) < limit
        wanted_grads = from_released(
            model, {key[5:]: value for key, value in tensors.items() if key.startswith("grad/")}
        )
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert share(parameter.grad, wanted_grads[name]) < limit, name


def filled(model: ScanBackbone, salt: str) -> dict[str, Tensor]:
    """The parameters that a full-size fixture's fill rule gives, in the released layout."""
    state = {}
    for key, parameter in to_released(model).items():
        if key.startswith("rope."):
            continue
        shape, last = tuple(parameter.shape), key.rpartition(".")[2]
        z = np.random.RandomState(zlib.crc32((salt + key).encode()) & 0x7FFFFFFF).standard_normal(shape)
        if "A_log" in key:
            value = np.log(np.arange(1, shape[-1] + 1)) + 0.3 * z
        elif last == "Ds" or last.startswith("D_"):
            value = 1 + 0.4 * z
        elif last == "dt_projs_bias" or ("dt_proj_" in key and last == "bias"):
            value = -2 + z
        elif last == "dt_projs_weight" or ("dt_proj_" in key and last == "weight"):
            value = 0.6 * z / np.sqrt(shape[-1])
        elif key.endswith("multi_scan.weights"):
            value = 0.8 * z
        elif "pos_embed" in key or "cls_token" in key:
            value = 0.4 * z
        elif len(shape) == 1:
            value = 1 + 0.25 * z if last == "weight" else 0.2 * z
        elif last == "x_proj_weight":
            value = 1.2 * z / np.sqrt(shape[-1])
        else:
            value = 1.2 * z / np.sqrt(np.prod(shape[1:]))
        state[key] = torch.from_numpy(value.astype(np.float32))
    return state


def summary(output: Tensor) -> Tensor:
    flat = output.detach().double().cpu().flatten()
    return torch.stack([flat.mean(), flat.std(), flat[0], flat[flat.numel() // 2], flat[-1]])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("path", fixtures("model"))
def test_full_size_model_equals_the_released_one(
    path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANSEARCH_BACKEND", backend)
    data, tensors = load_json(path), load_file(path.with_suffix(".safetensors"))
    published = PUBLISHED[RELEASED_NAMES[data["model"]]]
    image = np.random.RandomState(data["input_seed"]).standard_normal(data["input_shape"]).astype(np.float32)
    device = device_of(backend)
    choices = [published.layers]
    if (
        data["model"] == "local_vim_small"
    ):  # defined twice in the released code, and the second shadows the first
        choices.insert(0, LOCALVIM_UNSEARCHED)
    for layers in choices:
        model = build_model(published.family, layers, **published.arguments)
        assert sum(p.numel() for p in model.parameters()) == data["params"] == published.parameters
        model.load_state_dict(from_released(model, filled(model, data["salt"])))
        model = model.to(device).eval()
        with torch.no_grad():
            logits = model(torch.from_numpy(image).to(device))
        if share(logits, tensors["logits_f64"]) < 1e-4:
            break
    for dtype, limit in ((torch.float32, 1e-4), (torch.float64, 1e-9)):
        model = model.to(device, dtype).eval()
        with torch.no_grad(), recorded(model) as seen:
            logits = model(torch.from_numpy(image).to(device, dtype))
        assert share(logits, tensors["logits_f64"]) < limit
        wanted = tensors["block_summary_f64"]
        for row, block in zip(wanted, data["block_order"], strict=True):
            output = seen.get(f"block/{block}", seen.get(f"block/{block}/hidden"))
            scale = output.detach().double().abs().max().item()
            assert (summary(output) - row).abs().max().item() < limit * max(scale, 1.0), block


@pytest.mark.parametrize("path", fixtures("names"))
def test_parameter_names_and_shapes_equal_the_released_ones(path: Path) -> None:
    published = PUBLISHED[RELEASED_NAMES[path.stem.removeprefix("state_dict_")]]
    model = build_model(published.family, published.layers, **published.arguments)
    wanted = {key: (tuple(shape), dtype) for key, shape, dtype in load_json(path)}
    released = to_released(model)
    found = {key: (tuple(v.shape), str(v.dtype).removeprefix("torch.")) for key, v in released.items()}
    assert found == wanted
    again = from_released(model, released)
    state = model.state_dict()
    assert again.keys() == state.keys()
    assert all(torch.equal(again[key], state[key]) for key in state)
