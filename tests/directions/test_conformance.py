"""Every registered direction passes the public check, and the check finds what can be wrong with a new one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from scansearch.directions import DirectionFamily, direction_families, register_direction
from scansearch.errors import InputError
from scansearch.testing import GRIDS, check_direction


def members(family: DirectionFamily) -> list[str]:
    """Some names of ``family``, the smallest first."""
    if not family.has_parameter:
        return [family.pattern]
    return [family.name(parameter) for parameter in (family.minimum, family.minimum + 1, 7)]


NAMES = [name for family in direction_families() for name in members(family)]


@pytest.mark.parametrize("name", NAMES)
def test_a_registered_direction_passes(name):
    check_direction(name)


def test_the_grids_hold_what_usually_goes_wrong():
    assert {(1, 1), (14, 14)} <= set(GRIDS)
    assert any(height == 1 < width for height, width in GRIDS)
    assert any(width == 1 < height for height, width in GRIDS)
    assert any(height % 2 and width % 2 and height != width for height, width in GRIDS)
    assert any(height * width % 49 for height, width in GRIDS)  # 7x7 windows are padded


CALLS = itertools.count()

# what is wrong -> (the function, a part of the message)
BROKEN = {
    "misses the last token": (lambda h, w: np.arange(h * w - 1), "1x1 tokens: token 0 is visited never"),
    "right on squares only": (
        lambda h, w: np.arange(min(h, w) ** 2),
        "1x2 tokens: token 1 is visited never",
    ),
    "visits a token twice": (
        lambda h, w: np.append(np.arange(h * w), h * w // 2),
        "1x1 tokens: token 0 is visited 2 times",
    ),
    "leaves the grid": (lambda h, w: np.arange(h * w) + 1, "1x1 tokens: 1 is neither a token"),
    "pads with -2": (lambda h, w: np.append(np.arange(h * w), -2), "-2 is neither a token"),
    "is no list": (lambda h, w: np.arange(h * w).reshape(h, w), r"int64 of shape \[1, 1\], not a list"),
    "holds floats": (lambda h, w: np.arange(float(h * w)), "float64 of shape"),
    "is not the same twice": (
        lambda h, w: np.roll(np.arange(h * w), next(CALLS)),
        "another order when it is called again",
    ),
    "fails on thin grids": (
        lambda h, w: np.arange(h * w).reshape(h, 2, -1).ravel(),
        "1x1 tokens: its function raises ValueError",
    ),
}


@pytest.mark.usefixtures("clean_registry")
@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_direction_is_told_in_one_line(fault):
    build, message = BROKEN[fault]
    register_direction("broken", summary="broken", source="this test")(build)
    with pytest.raises(AssertionError, match=message) as caught:
        check_direction("broken_flip")
    assert "\n" not in str(caught.value)
    assert "'broken'" in str(caught.value)


@pytest.mark.usefixtures("clean_registry")
def test_a_direction_says_what_it_is_and_where_it_comes_from():
    register_direction("silent", summary="rows", source=" ")(lambda h, w: np.arange(h * w))
    with pytest.raises(AssertionError, match="'silent' has no source"):
        check_direction("silent")


@pytest.mark.usefixtures("clean_registry")
def test_grids_of_the_author_are_checked():
    register_direction("small", summary="wrong from 40 columns on", source="this test")(
        lambda h, w: np.zeros(h * w, int) if w == 40 else np.arange(h * w)
    )
    check_direction("small")
    with pytest.raises(AssertionError, match="3x40"):
        check_direction("small", grids=[(3, 40)])


def test_an_unknown_name_is_an_input_error():
    with pytest.raises(InputError, match="unknown scan direction"):
        check_direction("no-such")
