"""Files and folders in the making, named so that what a killed process left is known and removed.

A name ends in the machine's digest, the process's number and eight random characters.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shutil
import socket
import stat
import tempfile
import time
from pathlib import Path

_ENDING = re.compile(r"\.([0-9a-f]{6})-(\d{1,10})-[a-z0-9_]{8}$")
_OLD = 24 * 3600  # seconds after which a process of another machine is taken for dead
_LIVE: set[str] = set()  # what this process is making: another with its number may have died before


def new_file(path: Path) -> tuple[int, Path]:
    """An empty file beside ``path``, open for writing (descriptor and name); :func:`done` when it has been renamed."""
    remove_abandoned(path.parent, f".{path.name}")
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=_beginning(f".{path.name}"))
    _LIVE.add(os.path.abspath(name))
    return descriptor, Path(name)


def new_folder(parent: Path, name: str) -> Path:
    """An empty folder in ``parent``, which only this user may enter; :func:`done` when it has been renamed."""
    remove_abandoned(parent, name)
    made = tempfile.mkdtemp(dir=parent, prefix=_beginning(name))
    _LIVE.add(os.path.abspath(made))
    return Path(made)


def done(path: Path) -> None:
    """Remove what is left of a file or folder in the making: nothing, where it has been renamed."""
    _remove(path)
    _LIVE.discard(os.path.abspath(path))


def remove_abandoned(folder: Path, name: str | None = None) -> None:
    """Remove from ``folder`` what dead processes were making: under ``name``, or all of it."""
    for path in folder.glob("*" if name is None else glob.escape(name) + ".*"):
        ending = _ENDING.search(path.name)
        if ending is None or os.path.abspath(path) in _LIVE:
            continue
        if _is_abandoned(path, ending[1], int(ending[2])):
            _remove(path)


def _is_abandoned(path: Path, machine: str, process: int) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        return False
    return _is_dead(process) if machine == _machine() else time.time() - status.st_mtime > _OLD


def _remove(path: Path) -> None:
    """Whatever it is; links are not followed."""
    try:
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    except OSError:
        pass


def _beginning(name: str) -> str:
    return f"{name}.{_machine()}-{os.getpid()}-"


def _machine() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]


def _is_dead(process: int) -> bool:
    if process == os.getpid():  # and not in _LIVE: one of this number has died before
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        pass
    return False
