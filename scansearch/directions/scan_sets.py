"""The directions that published models use in every layer, by name: baselines for a search."""

from __future__ import annotations

from dataclasses import dataclass

from scansearch.directions.registry import FLIP, check_directions
from scansearch.text import nearest


@dataclass(frozen=True)
class ScanSet:
    """Directions that one layer scans, the same in every layer.

    Attributes:
        summary: what they are, with the differences from the source.
    """

    directions: tuple[str, ...]
    summary: str
    source: str


def _both_ways(*names: str) -> tuple[str, ...]:
    return tuple(name + flip for name in names for flip in ("", FLIP))


SCAN_SETS = {
    "vim2": ScanSet(_both_ways("h"), "rows, both ways", "Vim, arXiv 2401.09417"),
    "vmamba4": ScanSet(
        _both_ways("h", "v"), "rows and columns, both ways: the cross-scan", "VMamba, arXiv 2401.10166"
    ),
    "localvim4": ScanSet(
        _both_ways("h", "w2"),
        "rows and 2x2 windows, both ways",
        "LocalMamba without a search, arXiv 2403.09338",
    ),
    "plainmamba4": ScanSet(
        _both_ways("snake", "vsnake"),
        "continuous rows and columns, both ways; without the paper's direction-aware parameters",
        "PlainMamba, arXiv 2403.17695",
    ),
    "zigma8": ScanSet(
        _both_ways("snake", "rsnake", "vsnake", "rvsnake"),
        "continuous rows and columns from every corner; the paper gives each layer one of them",
        "ZigMa, arXiv 2403.13802",
    ),
    "omni8": ScanSet(
        _both_ways("h", "v", "diag", "antidiag"),
        "rows, columns and both diagonals, both ways",
        "RS-Mamba, arXiv 2404.02668",
    ),
    "atrous2": ScanSet(
        _both_ways("atrous2"),
        "the phases of a grid of stride 2, both ways; the paper scans each phase as a sequence of its own",
        "after EfficientVMamba, arXiv 2403.09977",
    ),
}


def uniform_directions(text: str) -> tuple[str, ...]:
    """The directions of a scan set by name, or of a list such as ``h,v_flip``.

    Raises:
        InputError: neither.
    """
    if text in SCAN_SETS:
        return SCAN_SETS[text].directions
    near = None if "," in text else nearest(text, SCAN_SETS)
    hint = "" if near is None else f"did you mean {near!r}? "
    where = f"directions {text!r} ({hint}a list such as h,v_flip, or one of {', '.join(SCAN_SETS)})"
    return check_directions(text.split(","), where=where)
