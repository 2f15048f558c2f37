"""Which implementations exist and which one a call gets.

A backend is a module with `available()`, which raises ImportError or RuntimeError saying what is missing, and
`selective_scan(call)` and `causal_conv(call)` on checked calls. To add one, write its module and its line in
`MODULES`; where it should be the default for a device, also its line in `DEFAULTS`.
"""

import importlib
import os
import warnings
from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from scansearch_kernels import ops, reference
from scansearch_kernels.transforms import transformed

MODULES = {
    "reference": "scansearch_kernels.reference",
    "cpu": "scansearch_kernels.cpu.backend",
    "cuda": "scansearch_kernels.gpu.backend",
    "mamba_ssm": "scansearch_kernels.mamba_backend",
}
DEFAULTS = {"cpu": "cpu", "cuda": "cuda"}
VARIABLE = "SCANSEARCH_BACKEND"

loaded: dict[str, ModuleType] = {}  # modules whose backend was found to run
_said: set[str] = set()


def available_backends() -> list[str]:
    """Names of the backends that can run on this machine."""
    return [name for name in MODULES if _missing(name) is None]


def implementation(backend: str | None, tensors: Sequence[Tensor]) -> ModuleType:
    """The backend's module for a call on ``tensors``; see `pick`.

    Tensors without values need no kernel: on the device `meta` the registered operations tell their shapes. What
    the kernels have no derivative for is left to the reference.
    """
    if tensors[0].is_meta:
        return ops
    name = pick(backend, tensors[0].device.type)
    if not torch.compiler.is_compiling() and transformed(tensors):
        return reference
    return loaded[name]


@torch.compiler.assume_constant_result
def pick(backend: str | None, device_type: str) -> str:
    """Name of the backend, now in `loaded`: the argument, else SCANSEARCH_BACKEND, else the device's default.

    Raises ValueError for an unknown name and RuntimeError for a backend that cannot run here. A device
    without a default uses the reference, and says so once. A compiled graph keeps the choice it was made with.
    """
    name = backend or os.environ.get(VARIABLE) or DEFAULTS.get(device_type)
    if name in loaded:
        return name
    chosen = backend or os.environ.get(VARIABLE)
    if chosen:
        if chosen not in MODULES:
            origin = "backend" if backend else VARIABLE
            raise ValueError(f"{origin} must be one of {', '.join(MODULES)}, got '{chosen}'")
        if (reason := _missing(chosen)) is not None:
            raise RuntimeError(f"backend '{chosen}' cannot run here: {reason}")
        return chosen
    if name is None or _missing(name) is not None:
        if device_type not in _said:
            _said.add(device_type)
            why = f" ({_missing(name)})" if name else ""
            text = f"no fast kernel for device '{device_type}'{why}: using the reference"
            warnings.warn(text, stacklevel=3)
        _missing("reference")
        return "reference"
    return name


def _missing(name: str) -> str | None:
    """Why a backend cannot run here, or None if it can."""
    try:
        module = importlib.import_module(MODULES[name])
        module.available()
        loaded[name] = module
    except (ImportError, RuntimeError) as error:
        return str(error)
    return None
