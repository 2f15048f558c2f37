"""Searching: supernet, relaxations, updates, strategies, and the loop that runs them.

The function :func:`search` is re-exported as ``scansearch.search``. This package imports nothing heavy
until it is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from scansearch.pipeline import SearchResult
    from scansearch.spaces import SearchSpace


def search(
    space: SearchSpace | str, *, data: str = "digits", out: str | Path | None = None, **options: Any
) -> SearchResult:
    """Train the supernet of ``space`` on ``data``, and read off what it prefers.

    Args:
        space: a :class:`~scansearch.spaces.SearchSpace`, or the name or path of one.
        data: a data specification, see :mod:`scansearch.data`.
        out: the run folder; by default a new one below ``runs/``.
        options: any field of :class:`~scansearch.search.config.SearchConfig`, for example ``epochs=5``,
            ``strategy="darts"``, ``seed=1``.

    Returns:
        SearchResult with ``supernet``, ``preferences`` and ``run``.

    Raises:
        InputError: an unknown option or a value that is not allowed.
        RunStopped: the run had to stop; what it has written can be resumed.
    """
    from scansearch.pipeline import start_search

    return start_search(space, data=data, out=out, **options)
