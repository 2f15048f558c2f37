"""From a genotype's directions to a model with fresh weights."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, get_type_hints

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError

from scansearch.errors import InputError
from scansearch.models.backbone import ScanBackbone
from scansearch.models.local_vim import LocalVim
from scansearch.models.local_vmamba import LocalVMamba

FAMILIES: dict[str, type[LocalVim] | type[LocalVMamba]] = {"local_vim": LocalVim, "local_vmamba": LocalVMamba}

# The largest of each size; far above any model that trains, and small enough to be refused before it takes memory.
LARGEST = {
    "img_size": 16_384,
    "patch_size": 1024,
    "in_chans": 4096,
    "num_classes": 1_000_000,
    "embed_dim": 32_768,
    "dims": 32_768,
    "depths": 1024,
    "states": 1024,
    "expand": 64,
    "ssm_ratio": 64,
    "conv_width": 1024,
    "dt_rank": 32_768,
}
MOST_LAYERS, MOST_VALUES = 1024, 2**31


def build_model(
    family: str,
    directions: Sequence[Sequence[str]],
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **kwargs: Any,
) -> ScanBackbone:
    """A model of ``family`` whose layers scan ``directions``; weights are fresh, nothing is inherited.

    Args:
        family: "local_vim" or "local_vmamba".
        directions: one list of direction names per layer.
        device, dtype: of its parameters, instead of torch's defaults.
        kwargs: arguments of the family's class.

    Raises:
        InputError: an unknown family or argument, an argument of another type or above its bound (``LARGEST``), or
            layers that do not fit the family's depths.
    """
    if family not in FAMILIES:
        raise InputError(f"model family {family!r} is unknown: use {' or '.join(map(repr, FAMILIES))}")
    model = FAMILIES[family]
    known = set(inspect.signature(model).parameters) - {"directions"}
    unknown = sorted(set(kwargs) - known)
    if unknown:
        raise InputError(f"{model.__name__} has no argument {unknown[0]!r}: use {', '.join(sorted(known))}")
    sizes = {name: _checked(model, name, value) for name, value in kwargs.items()}
    _check_total(model, directions, sizes)
    with contextlib.nullcontext() if device is None else torch.device(device):
        return model(directions, **sizes).to(dtype=dtype)


@cache
def _argument(model: type, name: str) -> TypeAdapter[Any]:
    annotation = get_type_hints(model.__init__)[name]  # type: ignore[misc]
    return TypeAdapter(annotation, config=ConfigDict(strict=True))


def _checked(model: type, name: str, value: Any) -> Any:
    """``value`` of the argument's type and within its bound; a list where a tuple is meant."""
    value = tuple(value) if isinstance(value, list) else value
    try:
        value = _argument(model, name).validate_python(value)
    except ValidationError as error:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        message = str(error.errors(include_url=False)[0]["msg"])
        message = message[0].lower() + message[1:]
        raise InputError(f"{model.__name__}: {name}: {message}, found {shown}") from None
    for number in value if isinstance(value, tuple) else (value,):
        if name in LARGEST and number is not None and not 0 <= number <= LARGEST[name]:
            bound = f"at least 0, not {number}" if number < 0 else f"at most {LARGEST[name]}, not {number}"
            raise InputError(f"{model.__name__}: {name} must be {bound}")
    return value


def _check_total(model: type, directions: Sequence[Sequence[str]], sizes: Mapping[str, Any]) -> None:
    """Refuse a model too large to be built, by a rough count of its parameters."""
    defaults = {name: one.default for name, one in inspect.signature(model).parameters.items()}
    every = defaults | dict(sizes)
    width = max(every["dims"], default=1) if "dims" in every else every["embed_dim"]
    inner = width * every.get("expand", every.get("ssm_ratio", 1))
    sides = every["img_size"] if isinstance(every["img_size"], tuple) else (every["img_size"],) * 2
    patches = math.prod(side / max(1, every["patch_size"]) for side in sides)
    most = max(map(len, directions), default=1)
    layer = 3 * width * inner + most * inner * (3 * every["states"] + 2 * (every["dt_rank"] or width / 16))
    rest = every["num_classes"] * width + every["in_chans"] * every["patch_size"] ** 2 * width
    if len(directions) > MOST_LAYERS:
        raise InputError(f"{model.__name__}: {len(directions)} layers, but {MOST_LAYERS} is the most")
    if len(directions) * layer + rest + patches * width > MOST_VALUES:
        raise InputError(f"{model.__name__}: more than {MOST_VALUES} parameters, which is too large to build")
