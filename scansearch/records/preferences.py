"""Preferences: how much the search wants each candidate direction in each layer."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from scansearch.directions import check_directions
from scansearch.errors import InputError
from scansearch.files.strict import NumberLists, StrictModel, StringLists, load_json
from scansearch.records.provenance import Provenance
from scansearch.text import printable

if TYPE_CHECKING:
    from scansearch.display.frames import DataFrame
    from scansearch.display.homes import Figure
    from scansearch.records.genotype import Genotype


class Preferences(StrictModel):
    """One number per layer and candidate, a larger one is preferred.

    Attributes:
        space, variant: names of the search space and its size.
        candidates: direction names of each layer.
        scores: the same shape as ``candidates``. For selection ``magnitude`` these are gate probabilities,
            for ``perturbation`` drops in validation score.
        selection: the method that produced the scores.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    space: str
    variant: str
    selection: str
    candidates: StringLists = Field(min_length=1)
    scores: NumberLists = Field(min_length=1)
    provenance: Provenance = Provenance()

    @model_validator(mode="after")
    def _consistent(self) -> Preferences:
        if len(self.scores) != len(self.candidates):
            raise ValueError(f"scores has {len(self.scores)} layers, candidates has {len(self.candidates)}")
        for index, (names, values) in enumerate(zip(self.candidates, self.scores, strict=True)):
            check_directions(names, where=f"candidates of layer {index}")
            if len(names) != len(values):
                raise ValueError(f"scores of layer {index}: {len(values)} given for {len(names)} candidates")
            if not all(math.isfinite(value) for value in values):
                raise ValueError(f"scores of layer {index}: every score must be finite")
        return self

    @property
    def layers(self) -> int:
        """The number of layers."""
        return len(self.candidates)

    def ranked(self, layer: int) -> list[tuple[str, float]]:
        """Candidates of ``layer`` with their scores, most wanted first; ties in candidate order."""
        pairs = zip(self.candidates[layer], self.scores[layer], strict=True)
        return sorted(pairs, key=lambda pair: -pair[1])

    def __repr__(self) -> str:
        names = {len(names) for names in self.candidates}
        count = f"{min(names)}" if len(names) == 1 else f"{min(names)} to {max(names)}"
        origin = printable(f"{self.space}/{self.variant}")
        return f"<Preferences {origin}: {self.layers} layers of {count} candidates, by {printable(self.selection)}>"

    def _repr_html_(self) -> str:
        from scansearch.display.html import fragment, line

        return fragment(line(repr(self).strip("<>")), self.heat_map())

    def heat_map(self, chosen: StringLists | None = None) -> str:
        """The scores as an HTML table of coloured cells; those of ``chosen``, the directions of each layer, framed."""
        from scansearch.display.html import heat_map

        names = list(dict.fromkeys(name for layer in self.candidates for name in layer))
        rows = []
        for layer in range(self.layers):
            known = dict(self.ranked(layer))
            rows.append((str(layer), [known.get(name) for name in names]))
        framed = {(str(layer), name) for layer, kept in enumerate(chosen or ()) for name in kept}
        digits = 2 if max(abs(value) for layer in self.scores for value in layer) >= 0.1 else 4
        return heat_map(("layer", *names), rows, f"{{:.{digits}f}}".format, framed)

    def to_frame(self) -> DataFrame:
        """A pandas table with a row for each layer and candidate: ``layer`` (from 0), ``direction``, ``score``."""
        from scansearch.display.frames import table_of

        rows = (
            {"layer": layer, "direction": name, "score": score}
            for layer, (names, scores) in enumerate(zip(self.candidates, self.scores, strict=True))
            for name, score in zip(names, scores, strict=True)
        )
        return table_of(rows, ("layer", "direction", "score"))

    def plot(self, chosen: Genotype | None = None, *, title: str | None = None) -> Figure:
        """Heat map, a matplotlib Figure, see :func:`scansearch.plots.preferences_figure`.

        Args:
            chosen: the genotype whose directions are framed.

        Raises:
            InputError: ``chosen`` has another number of layers.
        """
        from scansearch.display.homes import drawn

        return drawn("preferences", self, chosen, title=title)

    def to_json(self) -> str:
        """The file's text, see :meth:`load`."""
        return self.model_dump_json(by_alias=True, indent=1) + "\n"

    def save(self, path: str | Path) -> None:
        """Write as JSON, atomically."""
        from scansearch.files.atomic import write_text

        write_text(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Preferences:
        """The preferences in a JSON file.

        Raises:
            InputError: one line naming file, key and what is allowed.
        """
        return load_json(Path(path), cls)

    @classmethod
    def mean(cls, several: list[Preferences]) -> Preferences:
        """The mean of the preferences of several runs (seeds) of one search.

        Raises:
            InputError: the runs differ in space, variant, candidates or selection.
        """
        first = several[0]
        for other in several[1:]:
            for field in ("space", "variant", "candidates", "selection"):
                if getattr(other, field) != getattr(first, field):
                    raise InputError(f"preferences cannot be averaged: they differ in {field}")
        scores = tuple(
            tuple(float(mean(map(Fraction, values))) for values in zip(*layer, strict=True))
            for layer in zip(*(item.scores for item in several), strict=True)
        )
        sources = [item.provenance for item in several]
        provenance = first.provenance.model_copy(
            update={
                "seeds": tuple(seed for source in sources for seed in source.seeds),
                "runs": tuple(run for source in sources for run in source.runs),
            }
        )
        return first.model_copy(update={"scores": scores, "provenance": provenance})
