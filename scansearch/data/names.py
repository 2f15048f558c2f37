"""What names of files and folders mean: which are pictures, splits or junk, and the order of classes."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from typing import Literal

PartName = Literal["train", "validation", "test"]

# By what Pillow reads without help from other programs; see also decoding.FORMATS.
ARRAY = ".npy"  # see bands.read_array
EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ARRAY)
PARTS: dict[PartName, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_JUNK = {"__macosx", "thumbs.db", "desktop.ini"}
_SHOWN = 5


def natural_key(name: str) -> tuple[tuple[str | int, ...], str]:
    """Sorts ``img2`` before ``img10``, whatever the case; names that are equal so, by their characters."""
    pieces = re.split(r"(\d+)", name.lower())
    return tuple(int(piece) if index % 2 else piece for index, piece in enumerate(pieces)), name


def is_junk(name: str) -> bool:
    """Whether an operating system or an editor left it there: hidden names, ``__MACOSX``, ``Thumbs.db``."""
    return name.startswith(".") or name.lower() in _JUNK


def is_picture(name: str) -> bool:
    """Whether the extension, in upper or lower case, is one of :data:`EXTENSIONS`."""
    return extension(name) in EXTENSIONS


def extension(name: str) -> str:
    """``.png`` for ``a.b.PNG``; empty where there is none."""
    return os.path.splitext(name)[1].lower()


def part_called(name: str) -> PartName | None:
    """The split that a folder, a file's stem or a cell of a table stands for, whatever the case."""
    return next((part for part, names in PARTS.items() if name.strip().lower() in names), None)


def readable(name: str) -> str:
    """``name`` as valid Unicode: bytes that are no UTF-8 are taken for Latin-1."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode(errors="surrogateescape").decode("latin-1")
    return name


def listed(names: Iterable[str]) -> str:
    """The first few names in quotes, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(repr(name) for name in every[:_SHOWN]) + more


def counted(count: int, noun: str) -> str:
    """``1 file``, ``3 files``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def kinds(names: Iterable[str]) -> str:
    """The extensions of ``names``, the most frequent first."""
    counts = Counter(extension(name) or "none" for name in names)
    shown = [kind for kind, _ in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))]
    return ", ".join(shown[:_SHOWN]) + (", ..." if len(shown) > _SHOWN else "")
