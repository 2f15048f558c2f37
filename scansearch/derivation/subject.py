"""What a derivation chooses from: preferences with one candidate for each scan, and their costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from scansearch.derivation.question import Question
from scansearch.derivation.wishes import Wishes
from scansearch.errors import InputError
from scansearch.records.costs import Costs
from scansearch.records.equal_scans import describe_merged, equal_scans, pool_preferences, restrict_costs
from scansearch.records.preferences import Preferences
from scansearch.records.space import SearchSpace


@dataclass(frozen=True)
class Subject:
    """Preferences and costs over the same candidates of ``space``.

    Attributes:
        merged: per layer, candidates that were left out and the one that is the same scan.
        notes: what was merged, in words.
    """

    preferences: Preferences
    costs: Costs | None
    space: SearchSpace
    merged: Sequence[dict[str, str]]
    notes: Sequence[str] = ()

    @classmethod
    def of(
        cls, preferences: Preferences, costs: Costs | None, space: SearchSpace, *, allow_equal: bool
    ) -> Subject:
        """Merge candidates that are one scan at the size of the search's images, unless ``allow_equal``.

        Raises:
            InputError: ``space`` has other candidates than the preferences.
        """
        candidates = space.layer_candidates(preferences.variant)
        treatment = preferences.provenance.treatment
        size: tuple[int, int] | None = None
        if treatment is not None:
            size = treatment.image_size
        elif costs is not None:
            size = (costs.image_size[0], costs.image_size[1])
        merged = equal_scans(space, preferences.variant, size)
        distinct = tuple(
            tuple(name for name in names if name not in left_out)
            for names, left_out in zip(candidates, merged, strict=True)
        )
        if preferences.candidates not in (candidates, distinct):
            raise InputError(
                f"space {space.name!r}, variant {preferences.variant!r}, has other candidates than the preferences"
            )
        grids = space.grids(preferences.variant, size)
        if space.merged:  # by the search
            return cls(preferences, costs, space, space.merged, describe_merged(space.merged, grids))
        if not any(merged) or (allow_equal and preferences.candidates == candidates):
            return cls(preferences, costs, space, [{}] * len(candidates))
        if preferences.candidates == candidates:
            preferences = pool_preferences(preferences, merged)
        if costs is not None and costs.candidates == candidates:
            costs = restrict_costs(costs, distinct)
        return cls(preferences, costs, space, merged, describe_merged(merged, grids))

    def question(self, wishes: Wishes) -> Question:
        """The question that ``wishes`` ask of this subject."""
        pairs = zip(self.preferences.candidates, self.merged, strict=True)
        offered = [len(names) + len(left_out) for names, left_out in pairs]
        return Question.build(self.preferences, self._translated(wishes), self.costs, offered)

    def _translated(self, wishes: Wishes) -> Wishes:
        """``wishes`` in which a name that was left out is required under the one that stands for it."""
        rule = wishes.require
        if rule is None or isinstance(rule, str) or not any(self.merged):
            return wishes
        layers = range(len(self.merged))
        by_layer = rule if isinstance(rule, Mapping) else dict.fromkeys(layers, rule)
        translated: dict[int, Sequence[str]] = {}
        for layer, names in by_layer.items():
            standing = self.merged[layer] if layer in layers else {}
            translated[layer] = tuple(dict.fromkeys(standing.get(name, name) for name in names))
        return replace(wishes, require=translated)
