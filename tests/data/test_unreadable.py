"""Pictures that cannot be read are named in one line, and pictures of odd sizes are resized."""

from __future__ import annotations

import io
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.pictures import made_images, png_chunk

from scansearch.data import BrokenImage, load_data

HEIGHT, WIDTH = 12, 16
COLOUR = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def encoded(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.tile(COLOUR, (4, 4, 1))).save(file, kind)
    return file.getvalue()


def bomb() -> bytes:
    """A PNG file of a few bytes that says it is 60,000 x 60,000 pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(b""))
        + png_chunk(b"IEND", b"")
    )


def long_strip() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (5000, 2)).save(file, "PNG")
    return file.getvalue()


BROKEN = {
    "zero bytes": b"",
    "truncated png": encoded("PNG")[:-600],
    "truncated jpeg": encoded("JPEG")[:-600],
    "truncated gif": encoded("GIF")[:-600],
    "truncated tiff": encoded("TIFF")[:300],
    "no picture": b"hello",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    "bomb": bomb(),
    "strip": long_strip(),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_a_picture_that_cannot_be_read_is_named(content: bytes, tmp_path: Path) -> None:
    made_images(tmp_path, ["a", "b"], 3)
    (tmp_path / "a" / "1.png").write_bytes(content)
    data = load_data(f"folder:{tmp_path}", image_size=8, scoring=True)
    with pytest.raises(BrokenImage, match=r"1\.png") as error:
        data.test.read(1)
    assert "\n" not in str(error.value)
    assert error.value.reason


def test_a_picture_that_vanishes_is_a_broken_image(tmp_path: Path) -> None:
    made_images(tmp_path, ["a", "b"], 3)
    (tmp_path / "a" / "dangling.png").symlink_to("nowhere")
    data = load_data(f"folder:{tmp_path}", image_size=8, scoring=True)
    with pytest.raises(BrokenImage, match=r"dangling\.png"):
        data.test.read(3)
    shutil.rmtree(tmp_path / "b")
    with pytest.raises(BrokenImage, match=r"2\.png"):
        data.test.read(6)


@pytest.mark.parametrize("size", [(1, 1), (1, 60), (60, 1), (2000, 1500)])
def test_very_small_and_large_pictures_are_resized(size: tuple[int, int], tmp_path: Path) -> None:
    for label in ("a", "b"):
        made_images(tmp_path, [label], 3, size=size)
    data = load_data(f"folder:{tmp_path}", image_size=8)
    for split in (data.train, data.test):
        image, _ = split.read(0)
        assert image.shape == (3, 8, 8)
        assert image.isfinite().all()
