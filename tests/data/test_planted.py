"""Planted data: the class is a correlation along one axis, and nothing else tells it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scansearch.data import load_data
from scansearch.errors import InputError


def images_and_signs(
    spec: str, size: int | tuple[int, int] = 10, part: str = "test"
) -> tuple[np.ndarray, np.ndarray]:
    split = getattr(load_data(spec, image_size=size), part)
    samples = [split.read(index) for index in range(split.count)]
    return torch.stack([x[0] for x, _ in samples]).numpy(), np.array([2 * label - 1 for _, label in samples])


def signed(images: np.ndarray, signs: np.ndarray, rows: int, columns: int) -> float:
    """Correlation of cells that are so many ``rows`` and ``columns`` apart, with the sign of the class."""
    height, width = images.shape[1:]
    first = images[:, : height - rows, max(0, -columns) : width - max(0, columns)]
    second = images[:, rows:, max(0, columns) : width + min(0, columns)]
    return float((signs[:, None, None] * first * second).mean())


def test_columns_correlate_downwards_only() -> None:
    images, signs = images_and_signs("planted:columns")
    assert signed(images, signs, 1, 0) == pytest.approx(0.7, abs=0.02)
    for apart in ((0, 1), (1, 1), (1, -1)):
        assert abs(signed(images, signs, *apart)) < 0.02
    assert images.mean() == pytest.approx(0, abs=0.02)
    assert images.std(axis=0) == pytest.approx(np.ones((10, 10)), abs=0.12)


def test_rows_are_columns_transposed() -> None:
    columns, signs = images_and_signs("planted:columns", (6, 9))
    rows, same = images_and_signs("planted:rows", (9, 6))
    assert np.array_equal(rows, columns.transpose(0, 2, 1))
    assert np.array_equal(signs, same)


def test_blocks_correlate_along_their_diagonals_only() -> None:
    images, signs = images_and_signs("planted:blocks", (10, 11))
    a, b, c, d = (images[:, i:10:2, j:10:2] for i in (0, 1) for j in (0, 1))
    of_class = signs[:, None, None]
    assert float((of_class * b * c).mean()) == pytest.approx(0.9, abs=0.02)
    assert float((of_class * a * d).mean()) == pytest.approx(-0.9, abs=0.02)
    for one, other in ((a, b), (a, c), (b, d), (c, d), (b[:, :, :-1], a[:, :, 1:]), (d[:, :-1], a[:, 1:])):
        assert abs(float((of_class * one * other).mean())) < 0.03
    for cells in (a, b, c, d):
        assert float(cells.std()) == pytest.approx(1, abs=0.02)


def test_nothing_tells_nothing() -> None:
    images, signs = images_and_signs("planted:nothing")
    for apart in ((0, 1), (1, 0), (1, 1), (1, -1)):
        assert abs(signed(images, signs, *apart)) < 0.02
    assert abs(signs.mean()) < 1e-9
    assert (signs[:-1] == signs[1:]).mean() < 0.6


@pytest.mark.parametrize("pattern", ["columns", "rows", "blocks", "nothing"])
def test_images_are_the_same_for_everybody_and_splits_differ(pattern: str) -> None:
    first, again = (load_data(f"planted:{pattern}", image_size=8) for _ in range(2))
    parts = [first.train, first.validation, first.test]
    assert [part.count for part in parts] == [2000, 500, 1000]
    assert torch.equal(first.train.read(7)[0], again.train.read(7)[0])
    assert len({float(part.read(0)[0][0, 0, 0]) for part in parts}) == 3
    for part in parts:
        labels = [part.read(index)[1] for index in range(part.count)]
        assert sum(labels) == part.count / 2


def test_cells_may_be_squares_of_pixels() -> None:
    small, _ = images_and_signs("planted:blocks", (6, 8))
    large, _ = images_and_signs("planted:blocks:3", (18, 24))
    assert np.array_equal(large, small.repeat(3, axis=1).repeat(3, axis=2))


@pytest.mark.parametrize(
    ("spec", "size", "message"),
    [
        ("planted:diagonals", 8, "a pattern of columns, rows, blocks, nothing"),
        ("planted:columns:0", 8, "expected planted:PATTERN"),
        ("planted:columns:", 8, "expected planted:PATTERN"),
        ("planted:columns:3", 8, "8x8 pixels are not 2x2 or more cells of 3x3 pixels"),
        ("planted:columns:8", 8, "not 2x2 or more cells"),
        ("planted", 8, "unknown data 'planted'"),
    ],
)
def test_bad_specifications_are_one_line(spec: str, size: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_data(spec, image_size=size)
