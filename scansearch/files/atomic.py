"""Writing files so that a reader sees the old one or the whole new one."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from scansearch.errors import RunStopped
from scansearch.files import temporary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = (".png", ".svg", ".pdf")


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that the file is either the old one or the whole new one.

    Raises:
        RunStopped: the disk is full or the folder cannot be written; the old file is untouched.
    """
    try:
        descriptor, made = temporary.new_file(path)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(made, 0o666 & ~_umask())
            os.replace(made, path)
        finally:
            temporary.done(made)
        flush_folder(path.parent)
    except OSError as error:
        raise RunStopped(f"cannot write {str(path)!r}: {error.strerror or error}") from error


def write_text(path: Path, text: str) -> None:
    """:func:`write_bytes` of UTF-8 text."""
    write_bytes(path, text.encode())


def write_figure(path: Path, figure: Figure) -> None:
    """:func:`write_bytes` of a matplotlib figure as what the ending says: one of :data:`FIGURES`, else PNG."""
    kind = path.suffix.lower() if path.suffix.lower() in FIGURES else ".png"
    dated = {".png": None, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind[1:], dpi=150, metadata=dated[kind])
    write_bytes(path, buffer.getvalue())


def flush_folder(folder: Path) -> None:
    """Make names in ``folder`` outlive a loss of power, where the system lets a folder be flushed."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which becomes ``path`` at the end of the block: whole, or not at all.

    ``path`` must not exist, or be an empty folder.

    Raises:
        OSError: it cannot be made.
    """
    aside = temporary.new_folder(path.parent, f".{path.name}")
    try:
        yield aside
        os.chmod(aside, 0o777 & ~_umask())
        if os.name == "nt" and path.is_dir():
            path.rmdir()  # elsewhere an empty folder is replaced
        os.rename(aside, path)
        flush_folder(path.parent)
    finally:
        temporary.done(aside)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
