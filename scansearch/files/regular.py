"""Reading files that may be anything: a named pipe that never answers, a device that never ends."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from scansearch.errors import InputError
from scansearch.text import nearest


def check_regular(path: Path) -> None:
    """Refuse what is no regular file, without opening it: opening a named pipe may wait for ever.

    Raises:
        InputError: no such file, or a folder, a pipe, a device or a socket.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}{similar(path)}") from None
    except ValueError as error:  # a NUL character in the name
        raise InputError(f"{str(path)!r}: {error}") from None
    if stat.S_ISDIR(mode):
        raise InputError(f"{path}: Is a directory")
    if not stat.S_ISREG(mode):
        raise InputError(f"{path}: is no regular file")


def similar(path: str | Path) -> str:
    """`` (did you mean 'runs/name'?)`` where the folder of the missing ``path`` has a name like it; else nothing."""
    missing = Path(path)
    try:
        near = nearest(missing.name, sorted(os.listdir(missing.parent)))
    except (OSError, ValueError):
        return ""
    return "" if near in (None, missing.name) else f" (did you mean {str(missing.with_name(str(near)))!r}?)"


def read_regular(path: Path, *, limit: int) -> bytes:
    """The content of a regular file of at most ``limit`` bytes.

    Raises:
        InputError: no such file, none that can be read, no regular file, or a larger one.
    """
    check_regular(path)
    try:
        # Not blocking: what the name stands for may have changed since the check.
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            content = file.read(limit + 1) if os.fstat(file.fileno()).st_size <= limit else b""
            larger = os.fstat(file.fileno()).st_size > limit or len(content) > limit
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    if larger:
        raise InputError(f"{path}: larger than {limit} bytes, so not one of our files")
    return content
