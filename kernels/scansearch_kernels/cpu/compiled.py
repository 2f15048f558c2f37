"""The kernels as native functions, compiled on first use and kept on disk.

The cache is one folder per version of the kernels' source below NUMBA_CACHE_DIR, the user's cache folder or, where
neither can be written, the folder for temporary files; older versions are removed. Numba itself keeps one file
per kernel and processor in it, so it does not grow.
"""

import hashlib
import os
import re
import shutil
import stat
import tempfile
import threading
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from numba import cfunc, types
from numba.core import config

from scansearch_kernels.cpu.conv import conv_backward, conv_forward
from scansearch_kernels.cpu.scan_backward import scan_backward
from scansearch_kernels.cpu.scan_forward import scan_forward

SINGLE, DOUBLE = np.float32(1), np.float64(1)
KEPT_VERSIONS = 2
_VERSION = re.compile(r"[0-9a-f]{16}")
_lock = threading.Lock()


# Numba caches functions of a module only, and an entry point needs a plain signature: hence one per precision.
def scan_forward_single(call: int) -> None:
    scan_forward(call, None, SINGLE)


def scan_forward_growing_single(call: int) -> None:
    scan_forward(call, True, SINGLE)


def scan_forward_double(call: int) -> None:
    scan_forward(call, None, DOUBLE)


def scan_backward_single(call: int) -> None:
    scan_backward(call, None, SINGLE)


def scan_backward_growing_single(call: int) -> None:
    scan_backward(call, True, SINGLE)


def scan_backward_double(call: int) -> None:
    scan_backward(call, None, DOUBLE)


def conv_forward_single(call: int) -> None:
    conv_forward(call, SINGLE)


def conv_forward_double(call: int) -> None:
    conv_forward(call, DOUBLE)


def conv_backward_single(call: int) -> None:
    conv_backward(call, SINGLE)


def conv_backward_double(call: int) -> None:
    conv_backward(call, DOUBLE)


_compiled: dict[str, Any] = {}


def kernel(name: str, dtype: torch.dtype) -> int:
    """Address of the native `void function(int64)` for a kernel such as "scan_forward", in float32 or float64."""
    full = f"{name}_{'double' if dtype == torch.float64 else 'single'}"
    if full not in _compiled:
        with _lock:
            if full not in _compiled:
                _compiled[full] = compile_kept(globals()[full])
    address: int = _compiled[full].address
    return address


def compile_kept(function: Callable[[int], None]) -> Any:
    """A native function of `function`, from the disk's cache or kept there."""
    folder = cache_folder()
    before = config.CACHE_DIR
    config.CACHE_DIR = str(folder or "")
    try:
        return cfunc(types.void(types.int64), cache=folder is not None)(function)
    finally:
        config.CACHE_DIR = before


@cache
def cache_folder() -> Path | None:
    """Where compiled kernels are kept, or None (with a warning) if nothing can be written anywhere."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    user = os.getuid() if hasattr(os, "getuid") else "user"
    given = os.environ.get("NUMBA_CACHE_DIR")
    for base in ([Path(given)] if given else []) + [home / "scansearch", Path(tempfile.gettempdir())]:
        family = base / f"scansearch-kernels-{user}"
        folder = family / _version()
        try:
            if not (_make_private(family) and _make_private(folder)):
                continue  # compiled code that somebody else could have put there is not to be run
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError:
            continue
        os.utime(folder)
        _remove_old(family)
        return folder
    warnings.warn(
        "no folder can be written to keep compiled kernels in: every process compiles", stacklevel=2
    )
    return None


def _version() -> str:
    """Digest of the kernels' source and of Numba's version."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _make_private(folder: Path) -> bool:
    """Make a folder for this user alone; whether it is one, and no link to one.

    Folders of earlier versions, which others may read but not write in, are closed.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return False
    if not hasattr(os, "getuid"):
        return True
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        return False
    if status.st_mode & 0o077:
        folder.chmod(0o700)
    return stat.S_IMODE(folder.lstat().st_mode) == 0o700


def _remove_old(family: Path) -> None:
    """Keep the newest few versions; what is no folder of a version is left alone."""
    versions = [
        path
        for path in family.iterdir()
        if _VERSION.fullmatch(path.name) and stat.S_ISDIR(path.lstat().st_mode)
    ]
    versions.sort(key=lambda folder: folder.lstat().st_mtime, reverse=True)
    for folder in versions[KEPT_VERSIONS:]:
        shutil.rmtree(folder, ignore_errors=True)
