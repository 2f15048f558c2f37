"""``planted:PATTERN``: noise in which one scan direction sees the class and the others hardly do.

For demonstrations and tests of a search: the right answer is known. A cell is a Gaussian number with mean 0 and
deviation 1; alone, no cell tells anything. There are two classes of equally many images, and they differ in the sign
of a correlation only:

* ``columns``: each column is an autoregression along its length, x[i] = s c x[i-1] + sqrt(1 - c^2) noise with c = 0.7
  and s = 1 or -1 by the class. Columns are independent, so a scan along rows meets unrelated numbers: ``v`` and
  ``v_flip`` see it.
* ``rows``: the same images transposed. ``h`` and ``h_flip`` see it.
* ``blocks``: in each block of 2x2 cells ``a b / c d`` from the corner on, c = s r b + noise and d = -s r a + noise
  with r = 0.9, each with deviation 1. Neighbours in a row or column are unrelated; a scan by 2x2 windows (``w2``,
  ``w2_flip``) has c right after b, and d three steps after a.
* ``nothing``: noise with random labels. No direction is better, and nothing can be learned.

The images are pure functions of pattern, size and index: 2,000 training, 500 validation and 1,000 test images of one
channel. ``planted:PATTERN:CELL`` makes each cell a square of CELL pixels, for models whose patches are as large; the
default, 1, fits ``vim8-bench``. Use a model without position embedding, or the place of a token gives its order away.
"""

from __future__ import annotations

import re

import numpy as np
import torch

from scansearch.data import ImageData, Split
from scansearch.data.digits import Images
from scansearch.errors import InputError

PATTERNS = ("columns", "rows", "blocks", "nothing")
COUNTS = {"train": 2000, "validation": 500, "test": 1000}
COLUMN_CORRELATION, BLOCK_CORRELATION = 0.7, 0.9


def read(argument: str, size: tuple[int, int]) -> ImageData:
    """The data set on images of ``size`` (height, width) pixels, both multiples of the cell's side.

    Raises:
        InputError: an unknown pattern, a cell that does not divide the image, or fewer than 2x2 cells.
    """
    pattern, colon, side = argument.partition(":")
    if pattern not in PATTERNS or (colon and not re.fullmatch(r"[1-9]\d{0,3}", side)):
        raise InputError(
            f"data 'planted:{argument}': expected planted:PATTERN or planted:PATTERN:CELL with a pattern of "
            f"{', '.join(PATTERNS)}, for example planted:columns"
        )
    cell = int(side) if colon else 1
    if size[0] % cell or size[1] % cell or min(size) < 2 * cell:
        raise InputError(
            f"data 'planted:{argument}': images of {size[0]}x{size[1]} pixels are not 2x2 or more cells of "
            f"{cell}x{cell} pixels"
        )
    grid = (size[0] // cell, size[1] // cell)

    def split(part: int, count: int) -> Split:
        labels = np.random.default_rng([2025, part]).permutation(np.arange(count) % 2)
        cells = _draw(pattern, np.random.default_rng([2024, part]), 2 * labels - 1, grid)
        images = np.ascontiguousarray(cells.repeat(cell, axis=1).repeat(cell, axis=2))
        numbers = labels.tolist()
        return Split(count, Images(torch.from_numpy(images).float().unsqueeze(1), numbers), labels=numbers)

    parts = {name: split(part, count) for part, (name, count) in enumerate(COUNTS.items())}
    return ImageData(
        spec=f"planted:{argument}",
        classes=("negative", "positive"),
        channels=1,
        image_size=size,
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        mean=(0.0,),
        deviation=(1.0,),
    )


def _draw(
    pattern: str, generator: np.random.Generator, signs: np.ndarray, grid: tuple[int, int]
) -> np.ndarray:
    """Cells [count, rows, columns], float64."""
    if pattern == "rows":
        return _draw("columns", generator, signs, grid[::-1]).transpose(0, 2, 1)
    cells = generator.standard_normal((len(signs), *grid))
    if pattern == "columns":
        factor = COLUMN_CORRELATION * signs[:, None]
        for row in range(1, grid[0]):
            cells[:, row] *= np.sqrt(1 - COLUMN_CORRELATION**2)
            cells[:, row] += factor * cells[:, row - 1]
    if pattern == "blocks":
        factor = BLOCK_CORRELATION * signs[:, None, None]
        whole = cells[:, : grid[0] // 2 * 2, : grid[1] // 2 * 2]
        for left, sign in ((0, 1), (1, -1)):
            below = whole[:, 1::2, left::2]
            below *= np.sqrt(1 - BLOCK_CORRELATION**2)
            below += sign * factor * whole[:, ::2, 1 - left :: 2]
    return cells
