"""Parts of pages: what they draw, and that texts of unknown origin stay texts."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from scansearch.directions import parse_direction
from scansearch.display.html import colour, escape, heat_map, table
from scansearch.display.sketch import layer_strip, scan_svg, sketch_side
from scansearch.errors import InputError

HOSTILE = "<script>alert('1')</script>&\"\x1b[31m"


def lines_of(svg: str) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """The straight lines of a sketch, as they are drawn."""
    found = []
    for path in ElementTree.fromstring(svg).iter("path"):
        for start, end in re.findall(r"M([\d. ]+)L([\d. ]+)", path.attrib["d"]):
            a, b = (tuple(map(float, point.split())) for point in (start, end))
            found.append(((a[0], a[1]), (b[0], b[1])))
    return found


def tokens_on(line: tuple[tuple[float, float], tuple[float, float]]) -> set[tuple[int, int]]:
    """(row, column) of the tokens between the ends of a straight line, and of the ends of a jump."""
    (x, y), (to_x, to_y) = line
    count = int(max(abs(to_x - x), abs(to_y - y)))
    straight = x == to_x or y == to_y
    shares = [step / count for step in range(count + 1)] if straight else [0, 1]
    return {(int(y + (to_y - y) * share), int(x + (to_x - x) * share)) for share in shares}


@pytest.mark.parametrize("name", ["h", "v_flip", "w2", "w7_flip", "snake", "hilbert"])
def test_a_sketch_visits_every_token_and_starts_where_the_scan_does(name: str) -> None:
    side = sketch_side(name)
    svg = scan_svg(name)
    seen = set().union(*map(tokens_on, lines_of(svg)))
    assert len(seen) == side * side
    circle = next(ElementTree.fromstring(svg).iter("circle")).attrib
    first = int(parse_direction(name).order(side, side, "skip")[0])
    assert (float(circle["cy"]) - 0.5, float(circle["cx"]) - 0.5) == divmod(first, side)


def test_straight_steps_are_joined() -> None:
    assert len(lines_of(scan_svg("h"))) < 30


def test_a_strip_tells_layers_grids_where_they_change_and_what_is_left_out() -> None:
    strip = layer_strip([["h"], ["v"], ["v"]], [(4, 4), (4, 4), (2, 3)])
    assert re.findall(r"<b>(\d+)</b>", strip) == ["0", "1", "2"]
    assert re.findall(r"\d x \d", strip) == ["4 x 4", "2 x 3"]
    many = layer_strip([["h"]] * 70)
    assert many.count("<svg") == 64
    assert "and 6 more layers" in many


def test_an_unknown_direction_is_refused() -> None:
    with pytest.raises(InputError, match="unknown scan direction"):
        scan_svg("sideways")


def test_texts_are_escaped_in_every_part() -> None:
    assert escape(HOSTILE) == "&lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt;&amp;&quot;\\x1b[31m"
    for part in (
        table((HOSTILE,), [(HOSTILE,)]),
        heat_map(("", HOSTILE), [(HOSTILE, [1.0])], lambda value: HOSTILE),
    ):
        assert "<script" not in part
        assert part.count(escape(HOSTILE)) >= 2
        ElementTree.fromstring(part)  # every element is closed


def test_a_heat_map_colours_by_value_and_leaves_gaps() -> None:
    text = heat_map(("layer", "h", "v"), [("0", [0.0, 1.0]), ("1", [None, 0.5])], framed={("0", "v")})
    assert re.findall(r"background:(rgb\([\d,]+\))", text) == [colour(0), colour(1), colour(0.5)]
    assert text.count("<td></td>") == 1
    assert re.findall(r"outline:[^>]*>([\d.]+)<", text) == ["1.00"]
    assert colour(0) == "rgb(68,1,84)"
    assert colour(1) == "rgb(253,231,37)"
    assert "0.50" in heat_map(("", "a"), [("0", [0.5])])  # all equal: no division by zero
