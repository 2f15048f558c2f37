"""Figures in words."""

from __future__ import annotations


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
