"""Modules and optimizers as named tensors, for checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


def pack_module(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    """The state dict of ``module`` under ``prefix``."""
    return {f"{prefix}.{name}": tensor.detach().clone() for name, tensor in module.state_dict().items()}


def unpack_module(module: nn.Module, tensors: Mapping[str, Tensor], prefix: str) -> None:
    start = prefix + "."
    module.load_state_dict(
        {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}
    )


def pack_optimizer(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """Optimizer state as named tensors: ``prefix.<parameter index>.<key>``. Every entry must be a tensor or number."""
    packed = {}
    for index, entries in optimizer.state_dict()["state"].items():
        for key, value in entries.items():
            tensor = (
                value.detach().clone()
                if isinstance(value, Tensor)
                else torch.tensor(value, dtype=torch.float64)
            )
            packed[f"{prefix}.{index}.{key}"] = tensor
    return packed


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], prefix: str) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix + "."):
            index, key = name.removeprefix(prefix + ".").split(".", 1)
            state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def jsonable(values: Sequence[Tensor]) -> list[list[float]]:
    """Per-layer tensors as nested lists of floats, for metrics and preferences."""
    return [value.detach().cpu().tolist() for value in values]
