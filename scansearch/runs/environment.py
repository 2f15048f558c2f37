"""The versions, device and command line of this process."""

from __future__ import annotations

import platform
import sys
from datetime import UTC, datetime
from importlib import metadata
from typing import Any


def environment(device: str, seed: int) -> dict[str, Any]:
    """Versions, device, threads and command line of this process."""
    import torch

    packages = (
        "scansearch",
        "torch",
        "timm",
        "numba",
        "numpy",
        "triton",
        "optuna",
        "accelerate",
        "mamba-ssm",
    )
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version for name in packages if (version := _version(name))},
        "device": device,
        "device_name": torch.cuda.get_device_name()
        if device.startswith("cuda")
        else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "command": sys.argv,
        "seed": seed,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
