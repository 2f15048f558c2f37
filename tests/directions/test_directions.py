"""Scan directions: every token once, exact reversal, contiguous windows, equality with the released orders."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scansearch.directions import (
    FLIP,
    check_directions,
    direction_families,
    parse_direction,
    register_direction,
    stack_orders,
)
from scansearch.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
PARITY = Path(os.environ.get("SCANSEARCH_PARITY_DIR", ROOT.parent / "shared" / "reference" / "parity"))

sides = st.integers(1, 40)
parameters = st.one_of(st.integers(2, 45), st.integers(0, 10**6))


@st.composite
def names(draw):
    family = draw(st.sampled_from(direction_families()))
    if family.has_parameter:
        # windows far larger than the grid are legal but make huge padded orders
        largest = 60 if family.pattern.startswith("w") else 10**17
        base = family.name(draw(st.integers(family.minimum, largest)))
    else:
        base = family.pattern
    return base + draw(st.sampled_from(["", FLIP]))


def steps(order, width):
    """Row and column distance of every step."""
    row, column = np.divmod(order, width)
    return np.abs(np.diff(row)), np.abs(np.diff(column))


@settings(max_examples=300, deadline=None)
@given(name=names(), height=sides, width=sides)
def test_every_token_is_visited_exactly_once(name, height, width):
    direction = parse_direction(name)
    skipped = direction.order(height, width, "skip")
    assert skipped.dtype == np.int32
    assert sorted(skipped) == list(range(height * width))
    padded = direction.order(height, width, "zero")
    np.testing.assert_array_equal(padded[padded >= 0], skipped)


@settings(max_examples=200, deadline=None)
@given(name=names(), height=sides, width=sides, padding=st.sampled_from(["zero", "skip"]))
def test_flip_is_the_reversal(name, height, width, padding):
    base = name.removesuffix(FLIP)
    forward = parse_direction(base).order(height, width, padding)
    backward = parse_direction(base + FLIP).order(height, width, padding)
    np.testing.assert_array_equal(backward, forward[::-1])


@settings(max_examples=200, deadline=None)
@given(size=st.integers(2, 45), column_first=st.booleans(), height=sides, width=sides)
def test_windows_are_contiguous_runs(size, column_first, height, width):
    name = f"w{size}v" if column_first else f"w{size}"
    order = parse_direction(name).order(height, width, "zero")
    rows, columns = -(-height // size), -(-width // size)
    assert len(order) == rows * columns * size * size
    for number, run in enumerate(order.reshape(-1, size * size)):
        block = np.unravel_index(number, (columns, rows))[::-1] if column_first else divmod(number, columns)
        real = run[run >= 0]
        assert set(real // width // size) <= {block[0]}
        assert set(real % width // size) <= {block[1]}
        # inside a window the tokens come in raster order, so the pads lie where the window leaves the grid
        key = real % width * height + real // width if column_first else real
        assert (np.diff(key) > 0).all()


@settings(max_examples=200, deadline=None)
@given(size=st.integers(2, 20), height=sides, width=sides)
def test_column_windows_are_windows_of_the_transposed_grid(size, height, width):
    order = parse_direction(f"w{size}v").order(height, width, "zero")
    transposed = parse_direction(f"w{size}").order(width, height, "zero")
    back = np.where(transposed < 0, -1, transposed % height * width + transposed // height)
    np.testing.assert_array_equal(order, back)


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(["snake", "vsnake", "spiral", "hilbert"]), height=sides, width=sides)
def test_continuous_directions_step_to_one_of_the_four_neighbours(name, height, width):
    row, column = steps(parse_direction(name).order(height, width), width)
    assert (row + column == 1).all()


def test_hilbert_never_jumps_on_any_small_grid_and_on_long_thin_ones():
    grids = [(height, width) for height in range(1, 25) for width in range(1, 25)]
    for height, width in [*grids, (1, 5000), (5000, 1), (2, 2999), (2999, 2), (3, 1000), (257, 255)]:
        order = parse_direction("hilbert").order(height, width)
        assert len(set(order.tolist())) == height * width
        row, column = steps(order, width)
        assert (row + column == 1).all(), (height, width)


def test_hilbert_is_the_classic_curve_on_powers_of_two_and_local():
    order = parse_direction("hilbert").order(32, 32)
    # every aligned 4^n block is one contiguous run: what makes the curve local at every scale
    for block in (2, 4, 8, 16):
        runs = order.reshape(-1, block * block)
        assert len({(run[0] // 32 // block, run[0] % 32 // block) for run in runs}) == len(runs)
        for run in runs:
            assert len(set(run // 32 // block)) == 1
            assert len(set(run % 32 // block)) == 1


SMALL = {
    "h": [0, 1, 2, 3, 4, 5],
    "v": [0, 3, 1, 4, 2, 5],
    "w2": [0, 1, 3, 4, 2, -1, 5, -1],
    "w2v": [0, 3, 1, 4, 2, 5, -1, -1],
    "w2_flip": [-1, 5, -1, 2, 4, 3, 1, 0],
    "snake": [0, 1, 2, 5, 4, 3],
    "vsnake": [0, 3, 4, 1, 2, 5],
    "diag": [0, 1, 3, 2, 4, 5],
    "antidiag": [2, 1, 5, 0, 4, 3],
    "zorder": [0, 1, 3, 4, 2, 5],
    "spiral": [0, 1, 2, 5, 4, 3],
    "atrous2": [0, 2, 1, 3, 5, 4],
    "atrous99": [0, 1, 2, 3, 4, 5],
    "hilbert": [0, 1, 2, 5, 4, 3],
}


@pytest.mark.parametrize("name", SMALL)
def test_orders_on_two_rows_of_three_by_hand(name):
    assert parse_direction(name).order(2, 3, "zero").tolist() == SMALL[name]


def test_spiral_by_hand():
    assert parse_direction("spiral").order(3, 3).tolist() == [0, 1, 2, 5, 8, 7, 6, 3, 4]


@settings(max_examples=100, deadline=None)
@given(height=sides, width=sides)
def test_zorder_sorts_by_interleaved_bits(height, width):
    def code(token):
        row, column = divmod(token, width)
        pairs = zip(f"{row:06b}", f"{column:06b}", strict=True)
        return int("".join(bit for pair in pairs for bit in pair), 2)

    expected = sorted(range(height * width), key=code)
    assert parse_direction("zorder").order(height, width).tolist() == expected


@settings(max_examples=100, deadline=None)
@given(height=sides, width=sides, stride=st.integers(2, 12))
def test_atrous_phases_are_runs_of_equal_remainders(height, width, stride):
    row, column = np.divmod(parse_direction(f"atrous{stride}").order(height, width), width)
    key = ((row % stride * stride + column % stride) * height + row) * width + column
    assert (np.diff(key) > 0).all()


@settings(max_examples=100, deadline=None)
@given(height=sides, width=sides)
def test_diagonals_sort_by_their_diagonal_then_by_row(height, width):
    for name, sign in (("diag", 1), ("antidiag", -1)):
        row, column = np.divmod(parse_direction(name).order(height, width), width)
        assert (np.diff((row + sign * column) * height + row) > 0).all()


def test_random_is_fixed_for_ever_and_differs_between_seeds():
    assert parse_direction("random0").order(3, 4).tolist() == RANDOM0
    orders = {tuple(parse_direction(f"random{seed}").order(7, 9).tolist()) for seed in range(50)}
    assert len(orders) == 50


RANDOM0 = [2, 4, 6, 8, 5, 10, 1, 11, 7, 0, 9, 3]


def test_random_is_uniform_enough_to_be_a_control():
    # the mean position of each token over many seeds is close to the middle: 4 standard errors
    positions = np.array([np.argsort(parse_direction(f"random{seed}").order(6, 6)) for seed in range(400)])
    error = np.sqrt((36**2 - 1) / 12 / 400)
    assert np.abs(positions.mean(0) - 17.5).max() < 4 * error


def parity_orders():
    if not (PARITY / "scan_orders.json").is_file():
        pytest.skip(f"no reference orders in {PARITY} (set SCANSEARCH_PARITY_DIR)")
    return json.loads((PARITY / "scan_orders.json").read_text())["grids"]


def test_orders_equal_the_reference_with_zero_padding():
    checked = 0
    for grid, orders in parity_orders().items():
        height, width = map(int, grid.split("x"))
        for name, expected in orders.items():
            order = parse_direction(name).order(height, width, "zero")
            assert order.tolist() == expected["scan"], (grid, name)
            assert len(order) == expected["length"]
            assert (order < 0).sum() == expected["padded"]
            inverse = np.empty(height * width, dtype=int)
            inverse[order[order >= 0]] = np.flatnonzero(order >= 0)
            assert inverse.tolist() == expected["reverse_correct"], (grid, name)
            checked += 1
    assert checked >= 8


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("H", "h"),
        ("w1", "w2"),
        ("w0", "w2"),
        ("w", "w7"),
        ("w07", "w7"),
        ("w-2", "w2"),
        ("w 7", "w7"),
        ("w7_flip_flip", "w7_flip"),
        ("w7flip", "w7_flip"),
        ("h\n", "h"),
        ("hilbrt", "hilbert"),
        ("atrous1", "atrous2"),
        ("w\u0667", "w7"),
        ("w1\u0667", "w2"),
        ("h_Flip", "h_flip"),
    ],
)
def test_unknown_and_malformed_names_show_the_nearest_valid_one(name, nearest):
    with pytest.raises(ValueError, match="nearest valid name is") as caught:
        parse_direction(name)
    assert str(caught.value).endswith(f"nearest valid name is {nearest!r}")
    parse_direction(nearest)


@settings(max_examples=300, deadline=None)
@given(
    name=st.one_of(st.text(max_size=12), st.from_regex(r"[whvatrous]{0,3}[0-9]{0,3}(_flip)?", fullmatch=True))
)
def test_any_text_is_a_direction_or_a_one_line_error_with_a_valid_suggestion(name):
    try:
        direction = parse_direction(name)
    except InputError as error:
        message = str(error)
    else:
        assert direction.name == name
        return
    assert "\n" not in message
    assert len(message) < 200
    parse_direction(message.rpartition("nearest valid name is ")[2].strip("'"))


def test_names_that_only_look_numeric_or_endless_are_refused_quickly():
    with pytest.raises(InputError, match="beyond"):
        parse_direction("w99999999999").order(4, 4)
    with pytest.raises(InputError, match="nearest valid name"):
        parse_direction("w" + "9" * 5000)


def test_orders_are_cached_and_read_only():
    order = parse_direction("w2").order(6, 6)
    assert parse_direction("w2").order(6, 6) is order
    with pytest.raises(ValueError, match="read-only"):
        order[0] = 1


@pytest.mark.parametrize(("height", "width"), [(0, 3), (3, 0), (-1, 3)])
def test_empty_grids_are_refused(height, width):
    with pytest.raises(ValueError, match="at least 1"):
        parse_direction("h").order(height, width)


def test_unknown_padding_is_refused():
    with pytest.raises(ValueError, match="'zero' or 'skip'"):
        parse_direction("h").order(2, 2, "reflect")


def test_stacked_orders_keep_true_lengths():
    table, lengths = stack_orders(["h", "w2", "w2_flip"], 3, 3)
    assert table.shape == (3, 16)
    assert lengths == (9, 16, 16)
    assert (table[0, 9:] == -1).all()
    assert table[0, :9].tolist() == list(range(9))


@pytest.mark.parametrize("pattern", ["h", "w<K>", "hilbert"])
def test_a_taken_pattern_is_refused(pattern):
    with pytest.raises(ValueError, match="already registered"):
        register_direction(pattern, summary="", source="")


@pytest.mark.parametrize("pattern", ["", "X", "a_flip", "a<K><L>", "2d", "a b", "a<k>"])
def test_a_malformed_pattern_is_refused(pattern):
    with pytest.raises(ValueError, match="malformed"):
        register_direction(pattern, summary="", source="")


@pytest.mark.usefixtures("clean_registry")
def test_a_new_direction_is_one_function():
    @register_direction("rowpairs", summary="two rows at once", source="this test")
    def row_pairs(height, width):
        row, column = np.indices((height, width)).reshape(2, -1)
        return np.lexsort((row, column, row // 2))

    assert parse_direction("rowpairs").order(2, 3).tolist() == [0, 3, 1, 4, 2, 5]
    assert parse_direction("rowpairs_flip").order(2, 3).tolist() == [5, 2, 4, 1, 3, 0]


@pytest.mark.usefixtures("clean_registry")
@pytest.mark.parametrize(
    "order", [[0, 1, 2], [0, 1, 2, 2], [0, 1, 2, 4], [[0, 1], [2, 3]], [0, 1, 2, 3, -2], [0.0, 1.0, 2.0, 3.0]]
)
def test_a_new_direction_that_is_not_a_list_of_every_token_once_is_refused(order):
    register_direction("broken", summary="", source="")(lambda height, width: np.array(order))
    with pytest.raises(ValueError, match=r"'broken'.*each token exactly once"):
        parse_direction("broken").order(2, 2)


def test_lists_of_directions_name_the_place_of_the_problem():
    assert check_directions(["h", "w7_flip"], where="layer 3") == ("h", "w7_flip")
    for names, problem in ((["h", "h"], "listed twice"), (["q"], "unknown"), ([], "at least one")):
        with pytest.raises(InputError, match=f"layer 3: .*{problem}"):
            check_directions(names, where="layer 3")


def test_the_readme_of_the_spaces_lists_every_direction():
    text = (ROOT / "search_spaces" / "README.md").read_text()
    for family in direction_families():
        assert f"| `{family.pattern}` | {family.summary} | {family.source} |" in text


def test_every_direction_has_a_summary_and_a_source():
    for family in direction_families():
        assert family.summary
        assert family.source


def test_the_figure_draws_one_panel_per_direction():
    from scansearch.plots.directions import directions_figure

    names = ["h", "w2_flip", "hilbert", "spiral", "diag", "random3"]
    figure = directions_figure(names, 3, 5)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == names
    for axes, name in zip(figure.axes, names, strict=False):
        row, column = divmod(int(parse_direction(name).order(3, 5, "skip")[0]), 5)
        ring = axes.lines[-1]
        assert (list(ring.get_xdata()), list(ring.get_ydata())) == ([column], [row])
