"""Weights of the released code (LocalMamba, and its ancestors Vim and VMamba) to and from our layout.

The released LocalVim keeps one parameter per direction (``A_log_0``, ``conv1d_3.weight``), ours one stacked
parameter; the released LocalVMamba flattens direction and channel together. Models without branch attention
can only come from the ancestors' code, whose names and order of directions then apply.
"""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scansearch.errors import InputError
from scansearch.files.archives import check_archive
from scansearch.models.backbone import ScanBackbone
from scansearch.models.build import build_model
from scansearch.models.local_vim import LocalVim
from scansearch.models.local_vmamba import LocalVMamba
from scansearch.models.rope import rope_tables

# Where training codes keep the weights, most specific first; a bare mapping of tensors needs none.
CONTAINERS = ("model", "state_dict", "state_dict_ema")
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.")
# Per direction: LocalVim's name, Vim's name, and the axis of size 1 that ours leaves out.
STACKED: dict[str, tuple[str, str, int | None]] = {
    "conv_weight": ("conv1d{}.weight", "conv1d{}.weight", 1),
    "conv_bias": ("conv1d{}.bias", "conv1d{}.bias", None),
    "x_proj_weight": ("x_proj{}.weight", "x_proj{}.weight", None),
    "dt_weight": ("dt_proj{}.weight", "dt_proj{}.weight", None),
    "dt_bias": ("dt_proj{}.bias", "dt_proj{}.bias", None),
    "A_log": ("A_log{}", "A{}_log", None),
    "D": ("D{}", "D{}", None),
}
FLATTENED = {
    "x_proj_weight": "x_proj_weight",
    "dt_weight": "dt_projs_weight",
    "dt_bias": "dt_projs_bias",
    "A_log": "A_logs",
    "D": "Ds",
}
# VMamba scans rows, columns, and then both reversed.
VMAMBA_ORDER = ("h", "v", "h_flip", "v_flip")
# Names of VMamba's first code, before the ones that LocalMamba took over.
OLD_NAMES = (
    (r"^patch_embed\.proj\.", "patch_embed.0."),
    (r"^patch_embed\.norm\.", "patch_embed.2."),
    (r"\.ln_1\.", ".norm."),
    (r"\.self_attention\.", ".op."),
    (r"^norm\.", "classifier.norm."),
    (r"^head\.", "classifier.head."),
)


@dataclass(frozen=True)
class Source:
    """Where one of our parameters, of shape ``shape``, lives in the released layout.

    Each released tensor in ``names`` has the shape ``each``. With ``stacked`` they become one tensor with a
    new first axis. ``rows`` then puts the directions into our order.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    each: tuple[int, ...]
    stacked: bool = False
    rows: tuple[int, ...] | None = None

    def gather(self, released: Mapping[str, Tensor]) -> Tensor:
        parts = [released[name] for name in self.names]
        value = (torch.stack(parts) if self.stacked else parts[0]).reshape(self.shape)
        return (value if self.rows is None else value[list(self.rows)]).clone()

    def scatter(self, ours: Tensor) -> dict[str, Tensor]:
        if self.rows is not None:
            ours = ours[[self.rows.index(row) for row in range(len(self.rows))]]
        parts = ours.unbind(0) if self.stacked else (ours,)
        return {name: part.reshape(self.each).clone() for name, part in zip(self.names, parts, strict=True)}


def read_checkpoint(path: str | Path, key: str | None = None) -> dict[str, Tensor]:
    """The tensors of a checkpoint file, prefixes of wrappers removed; no code in the file is run.

    Args:
        path: a safetensors file, or a torch file that holds a mapping of tensors, bare or under one of
            ``model``, ``state_dict``, ``state_dict_ema``. Beside tensors and plain values, only
            ``argparse.Namespace`` may occur in it.
        key: the entry to take, where the file holds several.

    Raises:
        InputError: no such file, not a checkpoint, something in it that could run code, or no such entry.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"checkpoint {path}: no such file")
    data: Any = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if key is not None:
        if key not in data:
            raise InputError(f"checkpoint {path} has no entry {key!r}: use one of {_shown(data)}")
        data = data[key]
    else:
        data = next((data[name] for name in CONTAINERS if isinstance(data.get(name), Mapping)), data)
    if not isinstance(data, Mapping) or not data or not all(map(_is_entry, data.items())):
        raise InputError(
            f"checkpoint {path} holds no mapping of names to tensors, bare or under {CONTAINERS}"
        )
    state = dict(data)
    while prefix := next((one for one in PREFIXES if all(name.startswith(one) for name in state)), None):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _is_entry(item: tuple[object, object]) -> bool:
    """A name and an ordinary tensor, which a damaged or odd file may lack."""
    name, tensor = item
    return (
        isinstance(name, str)
        and isinstance(tensor, Tensor)
        and tensor.layout == torch.strided
        and not tensor.is_quantized
        and not tensor.is_meta
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"checkpoint {path} is no safetensors file: {error}") from None


def _read_torch(path: Path) -> dict[str, Any]:
    if zipfile.is_zipfile(path):
        check_archive(path, f"checkpoint {path}")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            data = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        match = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"holds {match[1]}, which could run code" if match else "is no torch checkpoint"
        raise InputError(f"checkpoint {path} {what}: only tensors and plain values are read") from None
    except Exception as error:  # whatever a damaged file makes torch raise
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"checkpoint {path} cannot be read: {line}") from None
    if not isinstance(data, dict):
        raise InputError(f"checkpoint {path} holds a {type(data).__name__}, not a mapping")
    return data


def _shown(names: Iterable[object], limit: int = 6) -> str:
    shown = sorted(map(str, names))
    rest = f" and {len(shown) - limit} more" if len(shown) > limit else ""
    return ", ".join(shown[:limit]) + rest


def released_sources(model: ScanBackbone) -> dict[str, Source]:
    """For every parameter of ``model``, its place in the released layout."""
    if not isinstance(model, LocalVim | LocalVMamba):
        raise InputError(f"{type(model).__name__} has no released layout: LocalVim and LocalVMamba have")
    if isinstance(model, LocalVim) and model.pyramid is not None:
        raise InputError("a feature pyramid has no released layout")
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    if isinstance(model, LocalVim):
        return {name: _vim_source(model, name, shape) for name, shape in shapes.items()}
    return {name: _vmamba_source(model, name, shape) for name, shape in shapes.items()}


def _vim_source(model: LocalVim, name: str, shape: tuple[int, ...]) -> Source:
    if name.startswith("norm."):
        return Source((name.replace("norm.", "norm_f."),), shape, shape)
    if name.startswith("feature_norms."):
        _, level, last = name.split(".")
        position = sorted(map(int, model.feature_norms)).index(int(level))
        return Source((f"outnorm_{position}.{last}",), shape, shape)
    match = re.fullmatch(r"(layers\.(\d+)\.mixer\.)(.*)", name)
    if match is None:
        return Source((name,), shape, shape)
    prefix, mixer, inner = match[1], model.mixers[int(match[2])], match[3]
    if inner in STACKED:
        local_vim, vim, axis = STACKED[inner]
        if mixer.merge.attention is None:
            inners = [vim.format(_vim_suffix(direction)) for direction in mixer.directions]
        else:
            inners = [local_vim.format(f"_{index}") for index in range(len(mixer.directions))]
        each = list(shape[1:])
        if axis is not None:
            each.insert(axis, 1)
        return Source(tuple(prefix + inner for inner in inners), shape, tuple(each), stacked=True)
    return _merge_source(prefix, inner, shape, attention="attn.")


def _merge_source(prefix: str, inner: str, shape: tuple[int, ...], attention: str) -> Source:
    if inner == "merge.alpha":
        return Source((f"{prefix}multi_scan.weights",), shape, (*shape, 1, 1, 1))
    return Source((prefix + inner.replace("merge.attention.", attention),), shape, shape)


def _vim_suffix(direction: str) -> str:
    if direction not in ("h", "h_flip"):
        raise InputError(f"without branch attention the released layout is Vim's, which has no {direction!r}")
    return "" if direction == "h" else "_b"


def _vmamba_source(model: LocalVMamba, name: str, shape: tuple[int, ...]) -> Source:
    if name.startswith("feature_norms."):
        _, level, last = name.split(".")
        return Source((f"outnorm{level}.{last}",), shape, shape)
    name = re.sub(r"^(norm|head)\.", r"classifier.\1.", re.sub(r"^stages\.", "layers.", name))
    name = name.replace("patch_embed.proj.", "patch_embed.0.").replace("patch_embed.norm.", "patch_embed.2.")
    match = re.fullmatch(r"layers\.(\d+)\.blocks\.(\d+)\.mixer\.(.*)", name)
    if match is None:
        return Source((name,), shape, shape)
    stage, block, inner = int(match[1]), int(match[2]), match[3]
    prefix = f"layers.{stage}.blocks.{block}.op."
    if inner not in FLATTENED:
        return _merge_source(prefix, inner, shape, attention="multi_scan.attn.")
    mixer = model.mixers[sum(model.depths[:stage]) + block]
    rows = None
    if mixer.merge.attention is None:
        if sorted(mixer.directions) != sorted(VMAMBA_ORDER):
            raise InputError(
                f"without branch attention the released layout is VMamba's, of {VMAMBA_ORDER} in each layer"
            )
        rows = tuple(VMAMBA_ORDER.index(direction) for direction in mixer.directions)
    flat = (shape[0] * shape[1], *shape[2:]) if inner in ("A_log", "D") else shape
    return Source((prefix + FLATTENED[inner],), shape, flat, rows=rows)


def from_released(model: ScanBackbone, released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of ``model`` made from tensors of the released layout; nothing is aliased.

    Raises:
        InputError: missing, unexpected or wrongly shaped entries, each named; rope tables other than those
            of the model's own grid.
    """
    sources = released_sources(model)
    released = dict(released)
    if isinstance(model, LocalVMamba):
        for pattern, name in OLD_NAMES:
            released = {re.sub(pattern, name, key): value for key, value in released.items()}
    tables = [released.pop(f"rope.freqs_{part}", None) for part in ("cos", "sin")]
    expected = {name: source.each for source in sources.values() for name in source.names}
    missing, unexpected = set(expected) - set(released), set(released) - set(expected)
    problems = [f"missing {_shown(missing)}"] if missing else []
    problems += [f"unexpected {_shown(unexpected)}"] if unexpected else []
    problems += [
        f"{name} is {list(released[name].shape)}, the model needs {list(each)}"
        for name, each in expected.items()
        if name in released and tuple(released[name].shape) != each
    ]
    if problems:
        more = f"; and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise InputError(
            f"the checkpoint does not fit {type(model).__name__}: {'; '.join(problems[:4])}{more}"
        )
    _check_rope(model, tables)
    return {ours: source.gather(released) for ours, source in sources.items()}


def _check_rope(model: ScanBackbone, tables: list[Tensor | None]) -> None:
    """Released cosine and sine tables, where there are any, must be those of the model's own grid."""
    if not isinstance(model, LocalVim) or not model.rope:
        if any(table is not None for table in tables):
            raise InputError("the checkpoint has rope tables, the model has no rope")
        return
    for table, ours in zip(tables, rope_tables(*model.grid_size, model.embed_dim), strict=True):
        if table is None:
            continue
        ours = ours.repeat_interleave(2, dim=-1)
        # Tables of half precision are ours as rounded to it.
        atol = max(1e-4, torch.finfo(table.dtype).eps) if table.is_floating_point() else 1e-4
        if table.shape != ours.shape or not torch.allclose(table.float(), ours, rtol=0, atol=atol):
            raise InputError(
                f"the checkpoint's rope tables are not those of a {model.grid_size} grid: build it for "
                "the img_size they were made for (tables resampled from another grid cannot be read)"
            )


def to_released(model: ScanBackbone) -> dict[str, Tensor]:
    """The weights of ``model`` in the released layout, rope tables included; nothing is aliased.

    Raises:
        InputError: the model has something that the released code does not.
    """
    state = model.state_dict()
    released: dict[str, Tensor] = {}
    for ours, source in released_sources(model).items():
        released |= source.scatter(state[ours])
    if isinstance(model, LocalVim) and model.rope:
        cos, sin = rope_tables(*model.grid_size, model.embed_dim)
        released["rope.freqs_cos"] = cos.repeat_interleave(2, dim=-1)
        released["rope.freqs_sin"] = sin.repeat_interleave(2, dim=-1)
    return released


def classes_of(state: Mapping[str, Tensor]) -> int:
    """The number of classes of a classifier's weights in either layout; 0 without a classifier."""
    head = state.get("head.weight", state.get("classifier.head.weight"))
    return 0 if head is None or not head.ndim else len(head)


def convert_checkpoint(
    path: str | Path, name: str, *, key: str | None = None, img_size: int = 224, back: bool = False
) -> dict[str, Tensor]:
    """A checkpoint of the registered model ``name`` in our layout, or with ``back`` ours in the released one.

    The number of classes is that of the checkpoint's classifier.

    Args:
        path, key: as in ``read_checkpoint``.
        img_size: what the model was built for, which fixes the size of LocalVim's position embedding.

    Raises:
        InputError: an unknown model, or a checkpoint that does not fit it.
    """
    from scansearch.models.published import published

    source = published(name)
    state = read_checkpoint(path, key)
    arguments = {"num_classes": classes_of(state), "img_size": img_size}
    model = build_model(source.family, source.layers, **(source.arguments | arguments))
    if not back:
        return from_released(model, state)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:3]]
        raise InputError(f"checkpoint {path} does not fit {name}: {' '.join(lines)}") from None
    return to_released(model)
