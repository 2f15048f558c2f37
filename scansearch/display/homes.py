"""Who draws what, by name: a value shows itself without importing the levels above it.

As with the public names and the axes of a search, a home is a text that is imported on first use.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Figure

HOMES = {
    "confusion": "scansearch.plots.training:confusion_figure",
    "costs": "scansearch.plots.costs:costs_figure",
    "genotype": "scansearch.plots.genotype:genotype_figure",
    "paths": "scansearch.plots.directions:scan_paths_figure",
    "preferences": "scansearch.plots.search:preferences_figure",
    "run": "scansearch.runs.pictures:draw_run",
    "run as html": "scansearch.runs.overview:run_html",
}


def home(name: str) -> Callable[..., Any]:
    """The function that has ``name`` in :data:`HOMES`."""
    module, _, function = HOMES[name].partition(":")
    value: Callable[..., Any] = getattr(import_module(module), function)
    return value


def drawn(name: str, /, *values: Any, **options: Any) -> Figure:
    """The picture ``name`` of ``values``.

    Raises:
        InputError: as the function at its home.
    """
    figure: Figure = home(name)(*values, **options)
    return figure
