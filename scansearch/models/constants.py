"""Tensors that depend on shapes alone, made once and shared by all layers and models.

They belong to no module, so that state dicts, copies and pickles of a model do not know them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._dynamo.comptime import comptime

T = TypeVar("T", bound=tuple[Any, ...])
LIMIT = 4096
_kept: dict[Hashable, Any] = {}
# The same values as attributes: a compiler reads each one under a name of its own, and guards it.
_named = SimpleNamespace()


def constant(make: Callable[..., T], *key: Any) -> T:
    """``make(*key)``, from memory where it was made before; a compiler takes it as an input of its graph.

    Args:
        make: a function of the key alone, of a name that no other such function has; its result is a tuple of
            tensors, numbers or tuples of them.
        key: constants: numbers, strings, devices, dtypes, None, or tuples of strings.
    """
    if torch.compiler.is_dynamo_compiling():
        name = " ".join([make.__name__, *[_text(part) for part in key]]).replace(".", ":")  # no path
        comptime(_prepare)
        value: T = getattr(_named, name)
        return value
    return _remember(make, key)


def _text(part: Any) -> str:
    return "+".join(part) if isinstance(part, tuple) else f"{part}"


def _prepare(context: Any) -> None:
    """Called by a compiler while it traces ``constant``: the value is there before it looks for it."""
    make, key, name = (context.get_local(local).as_python_constant() for local in ("make", "key", "name"))
    if not hasattr(_named, name):
        setattr(_named, name, _remember(make, key))


def _remember(make: Callable[..., T], key: tuple[Any, ...]) -> T:
    """Tensors made in inference mode could not be used in training later, so that mode is left; a tracer's or
    transformation's stand-ins must not outlive it, so they are not kept."""
    value = _kept.get((make, key))
    if value is None:
        with torch.inference_mode(False), _untraced():
            value = make(*key)
        if all(_plain(part) for part in value if isinstance(part, Tensor)):
            if len(_kept) >= LIMIT:
                _kept.clear()
                vars(_named).clear()
            _kept[make, key] = value
    result: T = value
    return result


@contextmanager
def _untraced() -> Iterator[None]:
    """torch.jit.trace records no making of constants: a second trace, which finds them made, would differ."""
    state = torch._C._get_tracing_state()
    torch._C._set_tracing_state(None)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch._C._set_tracing_state(state)  # type: ignore[attr-defined]


def _plain(tensor: Tensor) -> bool:
    return type(tensor) is Tensor and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
