"""Files that grow or are locked where they are: never through a link, which a folder of unknown origin may hold."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from scansearch.errors import InputError


def open_in_place(path: Path) -> BinaryIO:
    """``path`` open for reading and for writing at its end, made where it is missing.

    Raises:
        InputError: it is a link, or no regular file. OSError: it cannot be opened.
    """
    if path.is_symlink():
        raise InputError(f"{str(path)!r} is a link, and what it leads to is not written: remove it")
    # The flags are for what takes its place after that look: a link, or a pipe that nobody reads.
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, name, 0)
    file = open(os.open(path, flags, 0o666), "r+b", buffering=0)  # noqa: SIM115 - the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise InputError(f"{str(path)!r} is no regular file: remove it")
    return file


def append_line(path: Path, line: str) -> None:
    """Write ``line`` and its end at the end of ``path``, as :func:`open_in_place` opens it."""
    with open_in_place(path) as file:
        rest = memoryview(line.encode() + b"\n")
        while rest:  # a full disk may take a part
            rest = rest[file.write(rest) :]


def check_no_link(folder: Path) -> None:
    """Refuse a folder that is a link.

    Raises:
        InputError: it is one.
    """
    if folder.is_symlink():
        raise InputError(
            f"{str(folder)!r} is a link, and nothing is written through it: move the whole run instead"
        )
