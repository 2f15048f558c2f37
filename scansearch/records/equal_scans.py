"""Candidates that are one scan: on a grid of 7x7 tokens ``w7`` visits the tokens in the order of ``h``.

A search gives such candidates one branch, under the name that comes first; a derivation adds up the preferences of
both and chooses the scan once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby

from scansearch.directions import Padding, parse_direction
from scansearch.records.costs import Costs
from scansearch.records.preferences import Preferences
from scansearch.records.space import SearchSpace
from scansearch.text import span

# Of one layer: the name that is left out, and the one that stands for it.
Merged = Mapping[str, str]


def same_scans(names: Sequence[str], grid: tuple[int, int], padding: Padding) -> dict[str, str]:
    """Which of ``names`` visit a ``grid`` (rows, columns) in the order of an earlier one: name -> that one."""
    first: dict[bytes, str] = {}
    merged = {}
    for name in names:
        kept = first.setdefault(parse_direction(name).order(*grid, padding).tobytes(), name)
        if kept != name:
            merged[name] = kept
    return merged


def equal_scans(
    space: SearchSpace, variant: str | None, image_size: tuple[int, int] | None = None
) -> list[dict[str, str]]:
    """:func:`same_scans` of every layer of ``space``, for images of ``image_size`` (None: the variant's) pixels."""
    layers = zip(space.layer_candidates(variant), space.grids(variant, image_size), strict=True)
    return [same_scans(names, grid, space.switches.window_padding) for names, grid in layers]


def merge_equal_scans(
    space: SearchSpace, variant: str | None, image_size: tuple[int, int] | None = None
) -> SearchSpace:
    """``space`` with one candidate for each scan in every layer, or as it is where all scans differ.

    It keeps ``variant`` alone, because the grids of others are others; its ``merged`` tells what was left out.
    """
    merged = equal_scans(space, variant, image_size)
    if not any(merged):
        return space
    name = variant or space.default_variant
    layers = zip(space.layer_candidates(name), merged, strict=True)
    return SearchSpace.model_validate(
        space.model_dump(by_alias=True)
        | {
            "candidates": tuple(tuple(n for n in names if n not in left_out) for names, left_out in layers),
            "default_variant": name,
            "variants": {name: space.variant(name).model_dump()},
            "merged": tuple(merged),
        }
    )


def pool_preferences(preferences: Preferences, merged: Sequence[Merged]) -> Preferences:
    """``preferences`` without the names that are left out; their scores are added to those that stand for them."""
    candidates, scores = [], []
    for names, values, left_out in zip(preferences.candidates, preferences.scores, merged, strict=True):
        parts: dict[str, list[float]] = {name: [] for name in names if left_out.get(name) not in names}
        for name, value in zip(names, values, strict=True):
            parts[name if name in parts else left_out[name]].append(value)
        candidates.append(tuple(parts))
        scores.append(tuple(map(math.fsum, parts.values())))
    return preferences.model_copy(update={"candidates": tuple(candidates), "scores": tuple(scores)})


def restrict_costs(costs: Costs, candidates: Sequence[Sequence[str]]) -> Costs:
    """``costs`` of these ``candidates`` alone, which must be among its own, in their order."""

    def rows(table: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
        triples = zip(table, costs.candidates, candidates, strict=True)
        return tuple(
            tuple(value for value, name in zip(row, names, strict=True) if name in kept)
            for row, names, kept in triples
        )

    tables = {
        measure: table.model_copy(update={"table": rows(table.table)})
        for measure, table in costs.tables().items()
    }
    noise = costs.latency_noise_ms
    tables["latency_noise_ms"] = None if noise is None else rows(noise)  # type: ignore[assignment]
    return costs.model_copy(update={"candidates": tuple(map(tuple, candidates)), **tables})


def describe_merged(merged: Sequence[Merged], grids: Sequence[tuple[int, int]]) -> list[str]:
    """One line for each run of layers that merge the same: which scans are one there; none for an empty ``merged``."""
    if not merged:
        return []
    lines = []
    numbered = enumerate(zip(map(dict, merged), grids, strict=True))
    for (left_out, grid), run in groupby(numbered, key=lambda item: item[1]):
        layers = [index for index, _ in run]
        if left_out:
            where = f"{'layer' if len(layers) == 1 else 'layers'} {span(layers)}"
            pairs = ", ".join(f"{name} is {kept}" for name, kept in left_out.items())
            lines.append(f"{where}, {grid[0]}x{grid[1]} tokens: {pairs} (the same scan)")
    return lines
