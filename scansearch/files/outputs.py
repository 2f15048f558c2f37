"""Whether an output can be written, checked before the work whose result goes there. Nothing is made by checking."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from scansearch.errors import InputError, RunStopped


def check_file(out: Path | None, suffixes: Sequence[str] = ()) -> None:
    """Refuse a file that cannot be written; None, for no output, is fine.

    Raises:
        InputError: a wrong suffix, something else of that name, or a folder that cannot be written.
    """
    if out is None:
        return
    if suffixes and out.suffix not in suffixes:
        raise InputError(f"--out {out}: the file must end in {' or '.join(suffixes)}")
    with _one_line(out):
        if out.is_dir():
            raise InputError(f"--out {out}: there is a folder of that name")
        if out.exists() and not out.is_file():
            raise InputError(f"--out {out}: is no regular file")
        _check_writable(out.parent, out)


def check_folder(out: Path | None, *, fresh: bool = False) -> None:
    """Refuse a folder that cannot be made or written; ``fresh``: one that holds something, too.

    Raises:
        InputError: saying why.
    """
    if out is None:
        return
    with _one_line(out):
        if fresh and (out.is_file() or (out.is_dir() and any(out.iterdir()))):
            raise InputError(f"--out {out}: must be a new or an empty folder")
        _check_writable(out, out)


def make_folder(folder: Path) -> None:
    """Make ``folder`` and those above it.

    Raises:
        RunStopped: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunStopped(f"cannot make folder {str(folder)!r}: {error.strerror or error}") from error


def numbered(out: Path, count: int) -> list[Path]:
    """``count`` files beside ``out``: NAME-1.yaml, NAME-2.yaml and so on."""
    return [out.with_name(f"{out.stem}-{number}{out.suffix or '.yaml'}") for number in range(1, count + 1)]


@contextmanager
def _one_line(out: Path) -> Iterator[None]:
    """What the file system says against ``out``, as an InputError."""
    try:
        yield
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written: {error.strerror or error}") from None


def _check_writable(folder: Path, out: Path) -> None:
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise InputError(f"--out {out}: cannot be written: {str(existing)!r} is no folder")
    if not os.access(existing, os.W_OK | os.X_OK) or shutil.disk_usage(existing).free == 0:
        raise InputError(f"--out {out}: cannot be written")
