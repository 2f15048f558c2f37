"""Every picture, as functions that return a matplotlib Figure and draw on no screen."""

from scansearch.plots.agreement import agreement_figure, receptive_fields_figure
from scansearch.plots.costs import costs_figure
from scansearch.plots.directions import directions_figure, scan_paths_figure
from scansearch.plots.genotype import genotype_figure
from scansearch.plots.published import published_figure
from scansearch.plots.search import preferences_figure, trajectories_figure
from scansearch.plots.training import comparison_figure, confusion_figure, curves_figure

__all__ = [
    "agreement_figure",
    "comparison_figure",
    "confusion_figure",
    "costs_figure",
    "curves_figure",
    "directions_figure",
    "genotype_figure",
    "preferences_figure",
    "published_figure",
    "receptive_fields_figure",
    "scan_paths_figure",
    "trajectories_figure",
]
