"""Stripes, snakes from other corners, rings and sectors, against walks over the grid written out by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scansearch.directions import parse_direction
from scansearch.directions.scan_sets import SCAN_SETS, uniform_directions
from scansearch.errors import InputError

sides = st.integers(1, 24)


def order(name: str, height: int, width: int) -> list[tuple[int, int]]:
    """Row and column of every step."""
    return [divmod(token, width) for token in parse_direction(name).order(height, width).tolist()]


@settings(max_examples=100, deadline=None)
@given(height=sides, width=sides)
def test_snakes_of_other_corners_are_mirror_images(height: int, width: int) -> None:
    snake, columns = order("snake", height, width), order("vsnake", height, width)
    assert order("rsnake", height, width) == [(row, width - 1 - column) for row, column in snake]
    assert order("rvsnake", height, width) == [(height - 1 - row, column) for row, column in columns]


@settings(max_examples=200, deadline=None)
@given(height=sides, width=sides, size=st.integers(2, 30))
def test_stripes_are_walked_up_and_down_there_and_back(height: int, width: int, size: int) -> None:
    expected = []
    for number, top in enumerate(range(0, height, size)):
        rows = list(range(top, min(top + size, height)))
        columns = list(range(width))
        if number % 2 == 1:
            columns.reverse()
        for step, column in enumerate(columns):
            for row in rows if step % 2 == 0 else reversed(rows):
                expected.append((row, column))
    assert order(f"stripe{size}", height, width) == expected
    assert order(f"stripe{size}v", width, height) == [(column, row) for row, column in expected]


@settings(max_examples=100, deadline=None)
@given(height=sides, half=st.integers(0, 12), size=st.integers(2, 30))
def test_stripes_of_an_odd_width_never_jump(height: int, half: int, size: int) -> None:
    walk = order(f"stripe{size}", height, 2 * half + 1)
    assert all(abs(a - c) + abs(b - d) == 1 for (a, b), (c, d) in itertools.pairwise(walk))


def polar(height: int, width: int, row: int, column: int) -> tuple[float, float]:
    """Distance in tokens, and degrees clockwise from the top."""
    down, right = row - (height - 1) / 2, column - (width - 1) / 2
    return math.hypot(down, right), math.degrees(math.atan2(right, 0.0 - down)) % 360


@settings(max_examples=100, deadline=None)
@given(height=sides, width=sides)
def test_rings_grow_and_are_walked_clockwise(height: int, width: int) -> None:
    walk = [polar(height, width, *token) for token in order("ring", height, width)]
    for (distance, angle), (farther, later) in itertools.pairwise(walk):
        ring, next_ring = math.floor(distance + 1e-9), math.floor(farther + 1e-9)
        assert next_ring >= ring
        assert next_ring > ring or later >= angle - 1e-6


@settings(max_examples=100, deadline=None)
@given(height=sides, width=sides, sectors=st.sampled_from([2, 3, 4, 5, 8, 12, 360]))
def test_sectors_come_clockwise_and_go_outwards(height: int, width: int, sectors: int) -> None:
    walk = [polar(height, width, *token) for token in order(f"sector{sectors}", height, width)]
    numbers = [math.floor(angle * sectors / 360 + 1e-6) for _, angle in walk]
    assert numbers == sorted(numbers)
    for (distance, _), (farther, _), one, two in zip(walk, walk[1:], numbers, numbers[1:], strict=False):
        assert one < two or farther >= distance - 1e-9


def test_rings_on_five_by_five_by_hand() -> None:
    grid = np.empty(25, dtype=int)
    grid[parse_direction("ring").order(5, 5)] = np.arange(25)
    assert grid.reshape(5, 5).tolist() == [
        [23, 24, 9, 10, 11],
        [22, 8, 1, 2, 12],
        [21, 7, 0, 3, 13],
        [20, 6, 5, 4, 14],
        [19, 18, 17, 16, 15],
    ]


@pytest.mark.parametrize("name", ["ring", "sector4", "sector8"])
def test_a_quarter_turn_of_the_grid_turns_the_walk(name: str) -> None:
    """Straight up begins a ring and a sector, so the turned walk is the same but for where it begins."""
    turned = [(column, 8 - row) for row, column in order(name, 9, 9)]
    if name == "ring":
        for ring in range(6):
            mine = [t for t in order(name, 9, 9) if math.floor(polar(9, 9, *t)[0]) == ring]
            other = [t for t in turned if math.floor(polar(9, 9, *t)[0]) == ring]
            start = other.index(mine[0])
            assert other[start:] + other[:start] == mine
    else:
        quarter = (9 * 9 - 1) // 4
        assert order(name, 9, 9)[1 + quarter : 1 + 2 * quarter] == turned[1 : 1 + quarter]


def test_scan_sets_are_directions_in_both_ways() -> None:
    for name, scans in SCAN_SETS.items():
        assert uniform_directions(name) == scans.directions
        assert int(name[-1]) == len(scans.directions)
        assert len(set(scans.directions)) == len(scans.directions)
        for direction in scans.directions:
            parse_direction(direction)
    assert uniform_directions("v_flip,h") == ("v_flip", "h")
    with pytest.raises(
        InputError, match=r"directions 'h,x' .*one of vim2, vmamba4.*unknown scan direction 'x'"
    ):
        uniform_directions("h,x")
    with pytest.raises(InputError, match="listed twice"):
        uniform_directions("h,h")
