"""Folders of made pictures, one folder a class, and parts of PNG files."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def made_images(folder: Path, classes: Sequence[str], each: int, size: tuple[int, int] = (9, 7)) -> None:
    """``each`` random RGB pictures of ``size`` (height, width) for every class below ``folder``."""
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(each):
            Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(folder / name / f"{i}.png")


def png_chunk(name: bytes, content: bytes) -> bytes:
    """A part of a PNG file."""
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + checksum
