"""The best few genotypes by summed preference, in order: what a verification trains."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice

from scansearch.derivation.derive import derive
from scansearch.derivation.subject import Subject
from scansearch.errors import InputError
from scansearch.records.costs import Costs
from scansearch.records.genotype import Genotype
from scansearch.records.preferences import Preferences
from scansearch.records.space import SearchSpace

Subset = tuple[int, ...]


def ranked_genotypes(
    preferences: Preferences, count: int, *, k: int, costs: Costs | None = None, space: SearchSpace
) -> list[Genotype]:
    """The ``count`` genotypes with ``k`` directions per layer of the largest summed preference, the largest first.

    The first is :func:`scansearch.derive`'s; among the others, ties go to earlier candidates. Fewer come back only
    where there are no more.

    Raises:
        InputError: ``count`` below 1, or as :func:`scansearch.derive`.
    """
    if count < 1:
        raise InputError(f"{count} genotypes asked for: at least 1 is needed")
    first = derive(preferences, k=k, costs=costs, space=space)
    preferences = Subject.of(preferences, costs, space, allow_equal=False).preferences
    layers = [[Fraction(score) for score in scores] for scores in preferences.scores]
    sizes = [min(k, len(scores)) for scores in layers]
    genotypes = [first]
    for chosen in islice(_choices(layers, sizes), count):
        names = tuple(
            tuple(candidates[index] for index in sorted(subset))
            for candidates, subset in zip(preferences.candidates, chosen, strict=True)
        )
        if names != first.layers:
            genotypes.append(
                Genotype.of_space(space, names, variant=preferences.variant, provenance=first.provenance)
            )
    return genotypes[:count]


def _choices(layers: Sequence[Sequence[Fraction]], sizes: Sequence[int]) -> Iterator[list[Subset]]:
    """One subset of each layer, in the order of falling sums over all layers."""
    lists = [_Lazy(_subsets(scores, size)) for scores, size in zip(layers, sizes, strict=True)]
    start = (0,) * len(lists)

    def total(ranks: tuple[int, ...]) -> Fraction:
        pairs = zip(lists, ranks, strict=True)
        return sum((subsets.at(rank)[0] for subsets, rank in pairs), Fraction(0))

    heap, seen = [(-total(start), start)], {start}
    while heap:
        _, ranks = heapq.heappop(heap)
        yield [subsets.at(rank)[1] for subsets, rank in zip(lists, ranks, strict=True)]
        for layer, subsets in enumerate(lists):
            after = (*ranks[:layer], ranks[layer] + 1, *ranks[layer + 1 :])
            if after not in seen and subsets.has(after[layer]):
                seen.add(after)
                heapq.heappush(heap, (-total(after), after))


def _subsets(scores: Sequence[Fraction], size: int) -> Iterator[tuple[Fraction, Subset]]:
    """Subsets of ``size`` candidates with their sums, the largest sum first.

    From each subset, others follow by exchanging one member for the next one in the order of the scores; sums never
    rise on the way.
    """
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    start = tuple(range(size))

    def total(places: Subset) -> Fraction:
        return sum((scores[order[place]] for place in places), Fraction(0))

    heap, seen = [(-total(start), start)], {start}
    while heap:
        negative, places = heapq.heappop(heap)
        yield -negative, tuple(order[place] for place in places)
        for index, place in enumerate(places):
            following = places[index + 1] if index + 1 < size else len(scores)
            if place + 1 < following:
                after = (*places[:index], place + 1, *places[index + 1 :])
                if after not in seen:
                    seen.add(after)
                    heapq.heappush(heap, (-total(after), after))


class _Lazy:
    """An iterator whose items can be asked for by number."""

    def __init__(self, items: Iterator[tuple[Fraction, Subset]]) -> None:
        self._items, self._known = items, list[tuple[Fraction, Subset]]()

    def has(self, number: int) -> bool:
        self._known += islice(self._items, max(0, number + 1 - len(self._known)))
        return number < len(self._known)

    def at(self, number: int) -> tuple[Fraction, Subset]:
        if not self.has(number):
            raise IndexError(number)
        return self._known[number]
