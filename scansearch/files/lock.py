"""A lock on a file that the death of its holder releases."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scansearch.errors import InputError
from scansearch.files.in_place import open_in_place

_HELD: set[Path] = set()  # by this process: to close a file that it has locked would release the lock


def is_held_here(path: Path) -> bool:
    """Whether this process holds the lock in the file ``path``."""
    return path.absolute() in _HELD


def is_held(path: Path) -> bool:
    """Whether this process or another holds the lock in the file ``path``; False where that cannot be told."""
    if is_held_here(path):
        return True
    try:
        import fcntl

        if not path.is_file():
            return False
        with open_in_place(path) as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return True
    except (ImportError, OSError, InputError):
        pass
    return False


@contextmanager
def held(path: Path, busy: str) -> Iterator[None]:
    """Hold the lock in the file ``path`` inside the block; it belongs to this process, not to its children.

    Where the system has no such locks (Windows), or the file cannot be written, nothing is locked.

    Args:
        busy: what to say where another process holds it; its number and machine are added.

    Raises:
        InputError: another process holds it, or it is a link or no regular file.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    try:
        file = open_in_place(path)
    except OSError:  # a folder that cannot be written is told elsewhere
        yield
        return
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = file.read(200).decode(errors="replace").strip()
            raise InputError(f"{busy} ({holder or 'unknown process'})") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        file.flush()
        _HELD.add(path.absolute())
        try:
            yield
        finally:
            _HELD.discard(path.absolute())
