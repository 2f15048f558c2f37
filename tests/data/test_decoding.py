"""Every kind of picture gives the values of an 8-bit copy of itself."""

from __future__ import annotations

import io
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.pictures import made_images, png_chunk

from scansearch.data import Augment, BrokenImage, ImageData, load_data
from scansearch.data.augment import image_statistics
from scansearch.errors import InputError

HEIGHT, WIDTH = 12, 16
rng = np.random.default_rng(3)
COLOUR = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
GREY = rng.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
OPACITY = rng.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)


def data_of(picture: Image.Image, path: Path, channels: int | None = None, **how: Any) -> ImageData:
    """A data set of one test picture of each of two classes, saved as ``path``."""
    for label in ("a", "b"):
        (path.parent / "test" / label).mkdir(parents=True)
        picture.save(path.parent / "test" / label / path.name, **how)
    return load_data(
        f"folder:{path.parent}",
        image_size=(HEIGHT, WIDTH),
        augment=Augment(crop=1.0),
        channels=channels,
        scoring=True,
    )


def pixels(data: ImageData) -> np.ndarray:
    """The picture as it is before it is normalised, [height, width, channels] of 0 to 255."""
    image, _ = data.test.read(0)
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (data.mean, data.deviation))
    return (255 * (image * deviation + mean)).numpy().transpose(1, 2, 0)


def check(data: ImageData, expected: np.ndarray, tolerance: float = 0.51) -> None:
    expected = expected if expected.ndim == 3 else expected[..., None]
    assert np.abs(pixels(data) - expected).max() <= tolerance


def grey_as_colour(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


def over_white(colour: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    share = opacity[..., None] / 255
    return colour * share + 255 * (1 - share)


SIXTEEN = rng.integers(0, 65536, (HEIGHT, WIDTH)).astype(np.uint16)
UNIT = rng.random((HEIGHT, WIDTH)).astype(np.float32)
palette = Image.fromarray(COLOUR).quantize(64)

KINDS: dict[str, tuple[Image.Image, str, dict[str, Any], np.ndarray]] = {
    "RGB png": (Image.fromarray(COLOUR), "x.png", {}, COLOUR),
    "RGB bmp": (Image.fromarray(COLOUR), "x.bmp", {}, COLOUR),
    "RGB webp": (Image.fromarray(COLOUR), "x.webp", {"lossless": True}, COLOUR),
    "RGB ppm": (Image.fromarray(COLOUR), "x.ppm", {}, COLOUR),
    "RGB tiff": (Image.fromarray(COLOUR), "x.tif", {}, COLOUR),
    "grey png": (Image.fromarray(GREY), "x.png", {}, grey_as_colour(GREY)),
    "grey pgm": (Image.fromarray(GREY), "x.pgm", {}, grey_as_colour(GREY)),
    "black and white": (
        Image.fromarray(GREY > 127),
        "x.png",
        {},
        grey_as_colour(np.where(GREY > 127, 255, 0)),
    ),
    "16-bit png": (Image.fromarray(SIXTEEN), "x.png", {}, grey_as_colour(SIXTEEN / 257)),
    "16-bit tiff": (Image.fromarray(SIXTEEN), "x.tiff", {}, grey_as_colour(SIXTEEN / 257)),
    "16-bit pgm": (Image.fromarray(SIXTEEN), "x.pgm", {}, grey_as_colour(SIXTEEN / 257)),
    "dark 16-bit png": (Image.fromarray(SIXTEEN // 64), "x.png", {}, grey_as_colour(SIXTEEN // 64 / 257)),
    "float 0..1": (Image.fromarray(UNIT), "x.tif", {}, grey_as_colour(255 * UNIT)),
    "float 0..255": (Image.fromarray(255 * UNIT), "x.tif", {}, grey_as_colour(255 * UNIT)),
    "float 0..65535": (Image.fromarray(65535 * UNIT), "x.tif", {}, grey_as_colour(255 * UNIT)),
    "32-bit tiff of 16-bit values": (
        Image.fromarray(SIXTEEN.astype(np.int32)),
        "x.tif",
        {},
        grey_as_colour(SIXTEEN / 257),
    ),
    "palette": (palette, "x.png", {}, np.asarray(palette.convert("RGB"))),
    "palette gif": (palette, "x.gif", {}, np.asarray(palette.convert("RGB"))),
    "grey with opacity": (
        Image.fromarray(np.dstack([GREY, OPACITY]), "LA"),
        "x.png",
        {},
        over_white(grey_as_colour(GREY), OPACITY),
    ),
    "RGBA": (
        Image.fromarray(np.dstack([COLOUR, OPACITY])),
        "x.png",
        {},
        over_white(COLOUR, OPACITY),
    ),
    "hidden colours": (
        Image.fromarray(np.dstack([COLOUR, np.zeros_like(OPACITY)])),
        "x.png",
        {},
        np.full_like(COLOUR, 255),
    ),
    "transparent palette": (
        palette,
        "x.png",
        {"transparency": 0},
        np.where(np.asarray(palette)[..., None] == 0, 255, np.asarray(palette.convert("RGB"))),
    ),
    "transparent RGB": (
        Image.fromarray(COLOUR),
        "x.png",
        {"transparency": tuple(int(value) for value in COLOUR[0, 0])},
        np.where((COLOUR[0, 0] == COLOUR).all(-1, keepdims=True), 255, COLOUR),
    ),
    "CMYK": (
        Image.fromarray(COLOUR).convert("CMYK"),
        "x.tif",
        {},
        np.asarray(Image.fromarray(COLOUR).convert("CMYK").convert("RGB")),
    ),
    "animated gif": (
        palette,
        "x.gif",
        {"save_all": True, "append_images": [Image.fromarray(255 - COLOUR).quantize(64)]},
        np.asarray(palette.convert("RGB")),
    ),
}


@pytest.mark.parametrize(("picture", "name", "how", "expected"), KINDS.values(), ids=KINDS.keys())
def test_a_picture_gives_the_values_of_its_8_bit_copy(
    picture: Image.Image, name: str, how: dict[str, Any], expected: np.ndarray, tmp_path: Path
) -> None:
    # 1.01: Pillow rounds twice where it lays a transparent picture on white
    check(data_of(picture, tmp_path / name, **how), expected, tolerance=1.01)


def wide_png(values: np.ndarray, kind: int) -> bytes:
    """16 bits a channel, which Pillow does not write: ``kind`` 2 is RGB, 4 grey with opacity, 6 RGB with opacity."""
    height, width = values.shape[:2]
    rows = values.astype(">u2").reshape(height, -1)
    content = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    parts = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", content) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_colour_of_16_bits_gives_the_values_of_its_8_bit_copy(
    kind: int, channels: int, tmp_path: Path
) -> None:
    values = np.random.default_rng(kind).integers(0, 65536, (HEIGHT, WIDTH, channels)).astype(np.uint16)
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "x.png").write_bytes(wide_png(values, kind))
    data = load_data(
        f"folder:{tmp_path}", image_size=(HEIGHT, WIDTH), augment=Augment(crop=1.0), scoring=True
    )
    shares = values / 257
    expected = {
        2: lambda: shares,
        4: lambda: over_white(grey_as_colour(shares[..., 0]), shares[..., 1]),
        6: lambda: over_white(shares[..., :3], shares[..., 3]),
    }[kind]()
    check(data, expected, tolerance=2.5)  # Pillow keeps the upper byte of each value


def test_a_jpeg_for_printing_has_its_colours(tmp_path: Path) -> None:
    smooth = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    smooth[..., 0], smooth[..., 2] = 220, 40
    picture = Image.fromarray(smooth).convert("CMYK")
    check(data_of(picture, tmp_path / "x.jpg", quality=100), smooth, tolerance=6)


def test_grey_of_16_bits_keeps_its_picture(tmp_path: Path) -> None:
    # It once became white: values above 255 were cut off.
    data = data_of(Image.fromarray(SIXTEEN), tmp_path / "x.png")
    assert pixels(data).std() > 50
    assert any(note.startswith("16-bit pictures") for note in data.notes)


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (SIXTEEN // 16, "none that was looked at is brighter than 40.., so 17 of 256 grey levels"),
        (SIXTEEN, None),
        (400 * UNIT - 200, "values below 0 are black, and the lowest looked at is -1"),
        (400 * UNIT, None),
    ],
    ids=["12 bits in 16", "16 bits", "negative", "positive"],
)
def test_values_that_8_bits_do_not_hold_are_told(
    values: np.ndarray, note: str | None, tmp_path: Path
) -> None:
    notes = data_of(
        Image.fromarray(values), tmp_path / ("x.png" if values.dtype == np.uint16 else "x.tif")
    ).notes
    told = [line for line in notes if "grey levels" in line or "below 0" in line]
    assert len(told) == (note is not None), notes
    assert note is None or re.search(note, told[0])


NOTES = {
    "16-bit png": "divided by 65535",
    "float 0..255": "divided by 255",
    "RGBA": "laid on white",
    "animated gif": "the first frame is taken",
}


@pytest.mark.parametrize(("kind", "text"), NOTES.items())
def test_what_is_done_to_unusual_kinds_is_told(kind: str, text: str, tmp_path: Path) -> None:
    picture, name, how, _ = KINDS[kind]
    assert any(text in note for note in data_of(picture, tmp_path / name, **how).notes)


def test_the_scale_of_float_pictures_is_one_for_the_whole_data_set(tmp_path: Path) -> None:
    made = {"a": 200 * UNIT, "b": np.full_like(UNIT, 0.5)}  # the second alone would be taken for a share
    for label, values in made.items():
        (tmp_path / "test" / label).mkdir(parents=True)
        Image.fromarray(values.astype(np.float32)).save(tmp_path / "test" / label / "x.tif")
    data = load_data(
        f"folder:{tmp_path}", image_size=(HEIGHT, WIDTH), augment=Augment(crop=1.0), scoring=True
    )
    image, label = data.test.read(1)
    assert label == 1
    mean, deviation = data.mean, data.deviation
    assert mean is not None
    assert deviation is not None
    assert float(image[0].max()) * deviation[0] + mean[0] < 2 / 255


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.tif", "x.webp"])
def test_the_orientation_of_the_camera_is_applied(orientation: int, name: str, tmp_path: Path) -> None:
    upright = np.zeros((HEIGHT, HEIGHT, 3), np.uint8)
    upright[: HEIGHT // 2] = 200  # bright above
    upright[:, : HEIGHT // 4, 1] = 90  # and coloured on the left
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(np.ascontiguousarray(stored))
    how: dict[str, Any] = {"exif": exif}
    if name == "x.jpg":
        how |= {"quality": 100, "subsampling": 0}
    for label in ("a", "b"):
        (tmp_path / "test" / label).mkdir(parents=True)
        picture.save(tmp_path / "test" / label / name, **how)
    data = load_data(f"folder:{tmp_path}", image_size=HEIGHT, augment=Augment(crop=1.0), scoring=True)
    assert np.abs(pixels(data) - upright).mean() < 6


def test_damaged_orientations_are_no_reason_to_drop_a_picture(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(COLOUR).save(file, "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\xff")
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "x.png").write_bytes(file.getvalue())
    data = load_data(
        f"folder:{tmp_path}", image_size=(HEIGHT, WIDTH), augment=Augment(crop=1.0), scoring=True
    )
    check(data, COLOUR)


# --- channels ---


def test_pictures_are_read_with_one_channel(tmp_path: Path) -> None:
    check(data_of(Image.fromarray(GREY), tmp_path / "a" / "x.png", 1), GREY)
    check(data_of(Image.fromarray(SIXTEEN), tmp_path / "b" / "x.png", 1), SIXTEEN / 257)
    weights = np.array([0.299, 0.587, 0.114])
    check(data_of(Image.fromarray(COLOUR), tmp_path / "c" / "x.png", 1), COLOUR @ weights, tolerance=1.01)
    transparent = Image.fromarray(np.dstack([COLOUR, np.zeros_like(OPACITY)]))
    check(data_of(transparent, tmp_path / "d" / "x.png", 1), np.full_like(GREY, 255))
    cmyk = Image.fromarray(COLOUR).convert("CMYK")
    grey = np.asarray(cmyk.convert("RGB").convert("L"))
    check(data_of(cmyk, tmp_path / "e" / "x.tif", 1), grey)


def test_pictures_are_read_with_four_channels(tmp_path: Path) -> None:
    both = np.dstack([COLOUR, OPACITY])
    check(data_of(Image.fromarray(both), tmp_path / "a" / "x.png", 4), both)
    opaque = np.dstack([COLOUR, np.full_like(OPACITY, 255)])
    check(data_of(Image.fromarray(COLOUR), tmp_path / "b" / "x.png", 4), opaque)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_training_pictures_have_the_channels_that_are_asked_for(channels: int, tmp_path: Path) -> None:
    made_images(tmp_path, ["a", "b"], 5)
    data = load_data(f"folder:{tmp_path}", image_size=8, channels=channels)
    assert data.channels == channels
    assert (data.mean, data.deviation) == image_statistics(channels)
    for split in (data.train, data.validation):
        assert split.read(0)[0].shape == (channels, 8, 8)


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("fake:8x8:2", {"channels": 2}, "2 channels cannot be read"),
        ("digits", {"channels": 3}, "has images of 1 channels, not 3"),
        ("fake:8x8:2", {"channels": 1, "augment": Augment(policy="v0")}, "need images of 3 channels"),
        ("fake:8x8:2", {"channels": 4, "augment": Augment(color_jitter=0.4)}, "need images of 3 channels"),
    ],
)
def test_channels_that_cannot_be_are_one_line(spec: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        load_data(spec, image_size=8, **options)
    assert "\n" not in str(error.value)


def test_floats_that_are_no_numbers_are_broken(tmp_path: Path) -> None:
    values = UNIT.copy()
    values[0, 0] = np.nan
    data = data_of(Image.fromarray(values), tmp_path / "x.tif")
    with pytest.raises(BrokenImage, match="no finite numbers"):
        data.test.read(0)
