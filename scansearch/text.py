"""Figures in words, and texts of unknown origin as they may be shown."""

from __future__ import annotations

import difflib
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence


def human(number: float) -> str:
    """1,234,567 -> ``1.23 M``; decimal prefixes."""
    for factor, prefix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(number) >= factor:
            return f"{number / factor:.2f}{prefix}"
    return f"{number:g}"


def gibibytes(count: float) -> str:
    """Bytes as ``1.5 GiB``, or ``340 MiB`` below one."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def number(value: float) -> str:
    """A figure in full, so that it can be typed back as a budget."""
    return str(int(value)) if value == int(value) else repr(value)


def read_number(text: str) -> float:
    """``20M``, ``1.5G``, ``300 k`` and plain numbers such as ``1.5e9``.

    Raises:
        ValueError: another text.
    """
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?\s*([kMG]?)\s*", text)
    if match is None:
        raise ValueError(f"{text!r} is no number: write 20M, 1.5G or 1.5e9")
    value = float(match[1] + (match[2] or "")) * {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}[match[3]]
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is no number that can be held")
    return value


def printable(text: str) -> str:
    """``text`` on one line, without what a terminal obeys: control and format characters become escapes.

    Names of files and classes may hold any character, also bytes that are no UTF-8 (lone surrogates).
    """
    return "".join(_escaped(sign) if unicodedata.category(sign) in _OBEYED else sign for sign in text)


_OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape", errors="surrogatepass").decode("ascii")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The one of ``known`` that ``name`` is probably a misspelling of, the first of equally near ones; else None."""
    names, lower = list(known), name[:80].lower()
    near = set(difflib.get_close_matches(lower, {one.lower() for one in names}, n=8, cutoff=0.5))

    def likeness(one: str) -> float:
        return difflib.SequenceMatcher(None, one.lower(), lower).ratio()

    return max((one for one in names if one.lower() in near), key=likeness, default=None)


def choices(name: str, known: Iterable[str], more: str = "") -> str:
    """``(did you mean 'darts'? allowed: darts, gdas)``; ``more`` follows the names, as in ``, or a folder``."""
    names = list(known)
    near = nearest(name, names)
    hint = "" if near is None or near == name else f"did you mean {near!r}? "
    return f"({hint}allowed: {', '.join(names)}{more})"


def span(numbers: Sequence[int]) -> str:
    """``3``, or ``3 to 5`` for whole numbers in a row."""
    return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def table_cell(text: str) -> str:
    """``text`` in a cell of a Markdown table: no markup, no further cell."""
    shown = printable(" ".join(text.split()))
    for sign in "\\|`<[":
        shown = shown.replace(sign, "\\" + sign)
    return shown


def spreadsheet_cell(text: str) -> str:
    """``text`` in a CSV file: what a spreadsheet would take for a formula starts with an apostrophe."""
    shown = printable(text)
    return "'" + shown if shown[:1] in ("=", "+", "-", "@", "\\") else shown


def duration(seconds: float) -> str:
    """``40 s``, ``35 min``, ``2 h 5 min``"""
    if seconds < 99.5:
        return f"{max(1, round(seconds))} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
