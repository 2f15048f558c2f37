"""Which implementations exist and which one a call gets.

A backend is a module with `available()`, which raises ImportError or RuntimeError saying what is missing, and
`selective_scan(call)` and `causal_conv(call)` on checked calls. To add one, write its module and its line in
`MODULES`; where it should be the default for a device, also its line in `DEFAULTS`.
"""

import importlib
import os
import warnings
from types import ModuleType

MODULES = {
    "reference": "scansearch_kernels.reference",
    "cpu": "scansearch_kernels.cpu",
    "cuda": "scansearch_kernels.gpu",
    "mamba_ssm": "scansearch_kernels.mamba_backend",
}
DEFAULTS = {"cpu": "cpu", "cuda": "cuda"}
VARIABLE = "SCANSEARCH_BACKEND"

_said: set[str] = set()


def available_backends() -> list[str]:
    """Names of the backends that can run on this machine."""
    return [name for name in MODULES if _missing(name) is None]


def pick(backend: str | None, device_type: str) -> ModuleType:
    """The module that serves a call: the argument, else SCANSEARCH_BACKEND, else the device's default.

    Raises ValueError for an unknown name and RuntimeError for a backend that cannot run here. A device
    without a default uses the reference, and says so once.
    """
    name = backend or os.environ.get(VARIABLE) or None
    if name is not None:
        if name not in MODULES:
            origin = "backend" if backend else VARIABLE
            raise ValueError(f"{origin} must be one of {', '.join(MODULES)}, got '{name}'")
        if (reason := _missing(name)) is not None:
            raise RuntimeError(f"backend '{name}' cannot run here: {reason}")
        return importlib.import_module(MODULES[name])
    name = DEFAULTS.get(device_type)
    if name is None or _missing(name) is not None:
        if device_type not in _said:
            _said.add(device_type)
            why = f" ({_missing(name)})" if name else ""
            warnings.warn(
                f"no fast kernel for device '{device_type}'{why}: using the reference", stacklevel=3
            )
        name = "reference"
    return importlib.import_module(MODULES[name])


def _missing(name: str) -> str | None:
    """Why a backend cannot run here, or None if it can."""
    try:
        importlib.import_module(MODULES[name]).available()
    except (ImportError, RuntimeError) as error:
        return str(error)
    return None
