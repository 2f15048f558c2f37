"""From what a file holds to a picture of 8 bits a channel, with 1, 3 or 4 channels.

* The orientation that a camera wrote beside the picture (EXIF) is applied.
* Of an animation the first frame is taken.
* 16-bit grey is divided by 257 (65535 becomes 255). Float and 32-bit grey is taken as a share of a brightest value
  that is one for the whole data set: 1, 255, 65535 or the largest signed 32-bit number, see :func:`brightest`.
* Transparent pictures are laid on white, unless 4 channels (red, green, blue and opacity) are wanted; so the colour
  that a file holds under transparent pixels is not seen.
* Palettes, CMYK, YCbCr and Lab become red, green and blue; grey is Pillow's 0.299 R + 0.587 G + 0.114 B.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scansearch.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

CHANNELS = (1, 3, 4)
# What Pillow reads itself: no format that starts another program. JPEG includes the MPO of cameras.
FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
BACKGROUND = (255, 255, 255, 255)
SCALES = (1.0, 255.0, 65535.0, 2.0**31 - 1)
_MOST_UNEQUAL = 100  # a picture longer than this times its width would be enormous once it is resized
_ORIENTATION = 0x0112
_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")


def check_channels(channels: int, spec: str) -> int:
    """``channels``, where pictures of the data ``spec`` can be read so.

    Raises:
        InputError: another number than 1, 3 or 4.
    """
    if channels not in CHANNELS:
        raise InputError(f"images of {channels} channels cannot be read from {spec!r} (allowed: 1, 3, 4)")
    return channels


def open_picture(source: Any) -> Picture:
    """Pillow's picture in ``source`` (a path or a binary file), decoded.

    Raises:
        Exception: of many kinds, for a damaged file.
    """
    from PIL import Image

    with warnings.catch_warnings():
        # Pillow warns of half a bomb, and of metadata that are damaged while the picture is not.
        warnings.simplefilter("ignore")
        picture = Image.open(source, formats=FORMATS)
        picture.load()
    return picture


def read_picture(path: Path) -> np.ndarray:
    """The picture in a file as bytes [height, width, 3]; values of float and 32-bit pictures are shares of a scale
    that fits this one.

    Raises:
        InputError: no such file, or no picture of a kind that is read.
    """
    from PIL import UnidentifiedImageError

    try:
        with open(path, "rb") as file, open_picture(file) as picture:
            scale = brightest([wide_values(picture) or 1.0])
            return np.asarray(convert(picture, 3, scale))
    except UnidentifiedImageError:
        kinds = ", ".join(FORMATS)
        raise InputError(
            f"{str(path)!r} holds no picture of a kind that is read (allowed: {kinds})"
        ) from None
    except Exception as error:  # damaged files raise errors of any kind
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"picture {str(path)!r} cannot be read: {reason}") from None


def convert(picture: Picture, channels: int, scale: float = 1.0) -> Picture:
    """``picture`` with 8 bits in each of ``channels`` (1, 3 or 4) channels, upright.

    Args:
        scale: the brightest value of float and 32-bit pictures.

    Raises:
        InputError: values that are no numbers, or a picture that is far longer than wide.
    """
    from PIL import Image

    long, short = max(picture.size), min(picture.size)
    if short < 1 or long > _MOST_UNEQUAL * short:
        width, height = picture.size
        raise InputError(f"{width} x {height} pixels: one side is more than {_MOST_UNEQUAL} times the other")
    upright = _upright(picture)
    if upright.mode in ("F", "I", *_SIXTEEN_BITS):
        upright = Image.fromarray(_eight_bits(upright, picture.format, scale))
    elif "transparency" in upright.info or upright.mode in ("LA", "La", "PA", "RGBa", "RGBA"):
        upright = upright.convert("RGBA")
        if channels != 4:
            background = Image.new("RGBA", upright.size, BACKGROUND)
            upright = Image.alpha_composite(background, upright)
    mode = MODES[channels]
    if upright.mode in ("LAB", "HSV", "YCbCr", "CMYK") and mode != "RGB":
        upright = upright.convert("RGB")
    return upright if upright.mode == mode else upright.convert(mode)


def _upright(picture: Picture) -> Picture:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            orientation = picture.getexif().get(_ORIENTATION)
    except Exception:  # damaged metadata raise whatever Pillow's parser meets; the picture itself is read
        return picture
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    return picture.transpose(turns[orientation]) if orientation in turns else picture


def _whole_scale(mode: str, kind: str | None) -> float | None:
    """The brightest value where the type of the file tells it: of 16-bit grey, which Pillow may widen to 32."""
    return 65535.0 if mode in _SIXTEEN_BITS or (mode == "I" and kind in ("PNG", "PPM")) else None


def _eight_bits(picture: Picture, kind: str | None, scale: float) -> np.ndarray:
    values = np.asarray(picture, dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputError("holds values that are no finite numbers")
    shares = (values / (_whole_scale(picture.mode, kind) or scale)).clip(0, 1)
    return np.round(shares * 255).astype(np.uint8)


def brightest(values: Iterable[float]) -> float:
    """The smallest of :data:`SCALES` that none of ``values`` exceeds, or the largest of them."""
    most = max(values, default=0.0)
    return next((scale for scale in SCALES if most <= scale), SCALES[-1])


def wide_values(picture: Picture) -> float | None:
    """The largest value of a float or 32-bit picture; None for every other kind, or where it holds no number."""
    if picture.mode not in ("F", "I") or _whole_scale(picture.mode, picture.format):
        return None
    values = np.asarray(picture, dtype=np.float64)
    return float(values[np.isfinite(values)].max(initial=0.0))


def value_range(picture: Picture) -> tuple[float, float] | None:
    """The smallest and largest value of grey of more than 8 bits; None for other kinds, or where it holds no number."""
    if picture.mode not in ("F", "I", *_SIXTEEN_BITS):
        return None
    values = np.asarray(picture, dtype=np.float64)
    values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if values.size else None


def kind_of(picture: Picture) -> str:
    """What is worth telling of a picture's kind; empty for 8-bit grey and colour."""
    if _whole_scale(picture.mode, picture.format):
        return "16-bit"
    if picture.mode in ("F", "I"):
        return "32-bit"
    if "transparency" in picture.info or picture.mode in ("LA", "La", "PA", "RGBa", "RGBA"):
        return "transparent"
    if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":
        return "animated"
    return ""
