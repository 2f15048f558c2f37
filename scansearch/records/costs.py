"""Costs: what each direction costs in each layer, as plain data.

Every measure is a fixed part plus one additive figure per layer and candidate, so the cost of a choice
and the expected cost under gates are both a dot product. Nothing here needs torch; computing and
measuring the figures is the models' business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from scansearch.directions import check_directions
from scansearch.errors import InputError
from scansearch.files.strict import Integers, NumberLists, StrictModel, StringLists, load_json
from scansearch.text import choices, human, printable, span

if TYPE_CHECKING:
    from scansearch.display.frames import DataFrame
    from scansearch.display.homes import Figure

MEASURES = ("flops", "params", "latency_ms")


class CostTable(StrictModel):
    """One measure: ``fixed`` for what every choice pays, ``table`` [layers, candidates] on top of it."""

    fixed: float = Field(ge=0, allow_inf_nan=False)
    table: NumberLists = Field(min_length=1)


@dataclass(frozen=True)
class CostRow:
    """What one direction adds in one layer; layer and direction None: what every choice pays."""

    layer: int | None
    direction: str | None
    flops: float
    params: float
    latency_ms: float | None = None
    latency_noise_ms: float | None = None

    @property
    def latency(self) -> str:
        """The latency in words: ``1.234 ms``, or ``< 0.500 ms`` where it is no larger than twice its deviation."""
        if self.latency_ms is None:
            return ""
        if self.is_noise:
            return f"< {self.latency_ms + 2 * (self.latency_noise_ms or 0):.3f} ms"
        return f"{self.latency_ms:.3f} ms"

    @property
    def is_noise(self) -> bool:
        """Whether the latency is no larger than twice its deviation, where that is known."""
        if self.latency_ms is None or self.latency_noise_ms is None:
            return False
        return self.latency_ms <= 2 * self.latency_noise_ms


class Costs(StrictModel):
    """What the derived model of one search space costs at one input size.

    Attributes:
        space, variant: whose model it is; None where that is not recorded.
        candidates: direction names of each layer; the tables below have the same shape.
        flops: for one image, counted as ``convention`` says.
        params: parameters, buffers left out.
        latency_ms: milliseconds per image on ``device``; None where it was not measured.
        latency_noise_ms: standard deviation of each entry of the latency table, or None.
        image_size: height and width in pixels.
        convention: what counts as one FLOP, in words.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    space: str | None = None
    variant: str | None = None
    image_size: Integers = Field(min_length=2, max_length=2)
    convention: str
    device: str | None = None
    candidates: StringLists = Field(min_length=1)
    flops: CostTable
    params: CostTable
    latency_ms: CostTable | None = None
    latency_noise_ms: NumberLists | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Costs:
        if min(self.image_size) < 1:
            raise ValueError(
                f"image_size: height and width must be at least 1, found {list(self.image_size)}"
            )
        for index, names in enumerate(self.candidates):
            check_directions(names, where=f"candidates of layer {index}")
        tables = {measure: table.table for measure, table in self.tables().items()}
        if self.latency_noise_ms is not None:
            if self.latency_ms is None:
                raise ValueError("latency_noise_ms: given without latency_ms")
            tables["latency_noise_ms"] = self.latency_noise_ms
        for measure, table in tables.items():
            if [len(row) for row in table] != [len(names) for names in self.candidates]:
                raise ValueError(f"{measure}: needs one figure per layer and candidate")
            if not all(math.isfinite(value) and value >= 0 for row in table for value in row):
                raise ValueError(f"{measure}: every figure must be finite and not negative")
        return self

    @property
    def layers(self) -> int:
        """The number of layers."""
        return len(self.candidates)

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures that are there: ``flops``, ``params`` and, where measured, ``latency_ms``."""
        return tuple(self.tables())

    def tables(self) -> dict[str, CostTable]:
        """The raw figures by measure, for example to make tensors of them."""
        tables = {measure: getattr(self, measure) for measure in MEASURES}
        return {measure: table for measure, table in tables.items() if table is not None}

    def of(self, layers: Sequence[Sequence[str]]) -> dict[str, float]:
        """Totals by measure for the chosen directions of every layer.

        Raises:
            InputError: a wrong number of layers, an unknown or a repeated direction.
        """
        if len(layers) != self.layers:
            raise InputError(f"{len(layers)} layers given, but these costs have {self.layers}")
        chosen = []
        for index, (names, candidates) in enumerate(zip(layers, self.candidates, strict=True)):
            for name in names:
                if name not in candidates:
                    allowed = choices(name, candidates)
                    raise InputError(f"layer {index}: the costs do not know {name!r} {allowed}")
            if len(set(names)) != len(names):
                raise InputError(f"layer {index}: a direction is listed twice")
            chosen.append([float(name in names) for name in candidates])
        return self.expected(chosen)

    def expected(self, gates: Sequence[Sequence[float]]) -> dict[str, float]:
        """Totals by measure with every candidate weighted by its gate, gates [layers, candidates].

        With gates that are probabilities of independent choices this is the expected cost, exactly.

        Raises:
            InputError: gates of another shape.
        """
        if [len(row) for row in gates] != [len(names) for names in self.candidates]:
            raise InputError("gates need one number per layer and candidate of these costs")
        return {
            measure: math.fsum(
                [cost.fixed]
                + [
                    float(gate) * figure
                    for row, figures in zip(gates, cost.table, strict=True)
                    for gate, figure in zip(row, figures, strict=True)
                ]
            )
            for measure, cost in self.tables().items()
        }

    def levelled_latency(self) -> CostTable | None:
        """The latency table with differences below their own noise taken out.

        Within a layer, candidates sorted by latency form groups: a candidate joins the group of a faster
        one when their difference is below the noise of that difference, the root of the summed squares of
        both deviations. Every member then gets the mean of its group.
        """
        if self.latency_ms is None or self.latency_noise_ms is None:
            return self.latency_ms
        rows = []
        for figures, noise in zip(self.latency_ms.table, self.latency_noise_ms, strict=True):
            groups: list[list[int]] = []
            for index in sorted(range(len(figures)), key=lambda item: figures[item]):
                first = groups[-1][0] if groups else index
                if groups and figures[index] - figures[first] < math.hypot(noise[index], noise[first]):
                    groups[-1].append(index)
                else:
                    groups.append([index])
            level = {
                index: math.fsum(figures[i] for i in group) / len(group)
                for group in groups
                for index in group
            }
            rows.append(tuple(level[index] for index in range(len(figures))))
        return CostTable(fixed=self.latency_ms.fixed, table=tuple(rows))

    def rows(self) -> list[CostRow]:
        """The figures one by one: first what every choice pays, then each direction of each layer."""
        tables = self.tables()
        rows = [CostRow(None, None, **{measure: table.fixed for measure, table in tables.items()})]
        for layer, names in enumerate(self.candidates):
            for index, name in enumerate(names):
                figures = {measure: table.table[layer][index] for measure, table in tables.items()}
                noise = None if self.latency_noise_ms is None else self.latency_noise_ms[layer][index]
                rows.append(CostRow(layer, name, **figures, latency_noise_ms=noise))
        return rows

    def equal_layers(self) -> list[list[int]]:
        """All layers in order; those in a row with the same candidates and figures are in one list."""
        tables = [table.table for table in self.tables().values()]
        keys = [(names, *(table[layer] for table in tables)) for layer, names in enumerate(self.candidates)]
        return [list(group) for _, group in groupby(range(self.layers), key=keys.__getitem__)]

    def __repr__(self) -> str:
        origin = "" if self.space is None else f" of {printable(self.space)}/{printable(self.variant or '')}"
        height, width = self.image_size
        return f"<Costs{origin}: {', '.join(self.measures)} of {self.layers} layers at {height}x{width}>"

    def _repr_html_(self) -> str:
        from scansearch.display.html import escape, fragment, heat_map, line

        names = list(dict.fromkeys(name for layer in self.candidates for name in layer))
        parts = [line(repr(self).strip("<>"))]
        for measure, cost in self.tables().items():
            figure = "{:.3f} ms".format if measure == "latency_ms" else human
            rows = []
            for layers in self.equal_layers():
                known = dict(zip(self.candidates[layers[0]], cost.table[layers[0]], strict=True))
                rows.append((span(layers), [known.get(name) for name in names]))
            parts.append(f"<b>{escape(measure)}</b>")
            parts.append(heat_map(("layers", *names), rows, figure))
            parts.append(line(f"on top of {figure(cost.fixed)} that every choice pays", "ss-note"))
        return fragment(*parts, line(self.convention, "ss-note"))

    def to_frame(self) -> DataFrame:
        """The figures of :meth:`rows` as a pandas table: ``layer``, ``direction`` and one column for each measure."""
        from scansearch.display.frames import table_of

        return table_of(map(asdict, self.rows()), list(CostRow.__dataclass_fields__))

    def plot(self, measure: str = "flops") -> Figure:
        """Heat map of one measure, a matplotlib Figure, see :func:`scansearch.plots.costs_figure`.

        Raises:
            InputError: a measure that these costs do not have.
        """
        from scansearch.display.homes import drawn

        return drawn("costs", self, measure)

    def to_json(self) -> str:
        """The file's text, see :meth:`load`."""
        return self.model_dump_json(by_alias=True, indent=1) + "\n"

    def save(self, path: str | Path) -> None:
        """Write as JSON, atomically."""
        from scansearch.files.atomic import write_text

        write_text(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Costs:
        """The costs in a JSON file.

        Raises:
            InputError: one line naming file, key and what is allowed.
        """
        return load_json(Path(path), cls)
