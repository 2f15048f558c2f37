"""Named strategies: triples of relaxation, update and selection. Names only, so importing this is free."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

RELAXATIONS = ("softmax", "gumbel_topk", "gdas", "sigmoid", "uniform")
UPDATES = ("joint", "bilevel", "unrolled", "fair")
SELECTIONS = ("magnitude", "perturbation", "evolution")


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
    "spos": Strategy("uniform", "joint", "evolution", "single path one-shot, arXiv 1904.00420"),
    "fair": Strategy("uniform", "fair", "perturbation", "FairNAS, arXiv 1907.01845"),
}
