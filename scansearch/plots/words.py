"""Texts of unknown origin in pictures: no markup, no control characters, no wider than their place."""

from __future__ import annotations

import textwrap

from scansearch.text import printable

_SIGN = 0.62  # the mean width of a sign of the fonts that are used, in units of the font size


def shortened(text: str, most: int) -> str:
    """``text`` on one line of at most ``most`` signs; what is left out of its middle is a dot of three."""
    shown = printable(text)
    if len(shown) <= most:
        return shown
    head = (most - 1) // 2
    return f"{shown[:head]}…{shown[len(shown) - (most - 1 - head) :]}"


def wrapped(text: str, inches: float, points: float, lines: int = 3) -> str:
    """``text`` broken into at most ``lines`` lines that fit into ``inches`` at a font size of ``points``."""
    most = max(8, int(inches * 72 / (points * _SIGN)))
    broken = textwrap.wrap(printable(text), most) or [""]
    if len(broken) > lines:
        broken = [*broken[: lines - 1], shortened(" ".join(broken[lines - 1 :]), most)]
    return "\n".join(broken)
