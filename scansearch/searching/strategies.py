"""The three axes of a search, and named strategies: triples of relaxation, update and selection.

Names only, so importing this is free; ``RELAXATIONS.load("softmax")`` imports what a name stands for.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from scansearch.searching.axes import Axis

RELAXATIONS = Axis(
    "relaxation",
    {
        "softmax": "scansearch.searching.relaxations:Softmax",
        "gumbel_topk": "scansearch.searching.relaxations:GumbelTopK",
        "gdas": "scansearch.searching.relaxations:Gdas",
        "sigmoid": "scansearch.searching.relaxations:Sigmoid",
        "uniform": "scansearch.searching.relaxations:Uniform",
    },
)
UPDATES = Axis(
    "update",
    {
        "joint": "scansearch.searching.updates:JOINT",
        "bilevel": "scansearch.searching.updates:BILEVEL",
        "unrolled": "scansearch.searching.updates:UNROLLED",
        "fair": "scansearch.searching.updates:FAIR",
    },
)
SELECTIONS = Axis(
    "selection",
    {
        "magnitude": "scansearch.searching.selection:by_magnitude",
        "perturbation": "scansearch.searching.selection:by_perturbation",
        "evolution": "scansearch.searching.selection:by_evolution",
        "narrowing": "scansearch.searching.selection:by_narrowing",
    },
)


@dataclass(frozen=True)
class Strategy:
    """One point on the three axes, with the temperature that its source uses."""

    relaxation: str
    update: str
    selection: str
    source: str
    temperature: tuple[float, float] = (1.0, 1.0)

    def axes(self) -> dict[str, Any]:
        """The configuration fields that this strategy sets."""
        fields = asdict(self)
        start, end = fields.pop("temperature")
        del fields["source"]
        return fields | {"temperature": {"start": start, "end": end, "schedule": "linear"}}


STRATEGIES = {
    "localmamba": Strategy("softmax", "joint", "magnitude", "LocalMamba, arXiv 2403.09338, section 3.3"),
    "darts": Strategy("softmax", "bilevel", "magnitude", "DARTS first order, arXiv 1806.09055"),
    "darts2": Strategy("softmax", "unrolled", "magnitude", "DARTS second order, arXiv 1806.09055"),
    "gdas": Strategy("gdas", "bilevel", "magnitude", "GDAS, arXiv 1910.04465", (10.0, 0.1)),
    "topk": Strategy("gumbel_topk", "joint", "magnitude", "Gumbel top-k, arXiv 1903.06059", (1.0, 0.5)),
    "narrowing": Strategy(
        "softmax",
        "joint",
        "narrowing",
        "layer by layer, after P-DARTS, arXiv 1904.12760, and DARTS-PT, 2108.04392",
    ),
    "spos": Strategy("uniform", "joint", "evolution", "single path one-shot, arXiv 1904.00420"),
    "fair": Strategy("uniform", "fair", "evolution", "FairNAS, arXiv 1907.01845"),
}
