"""What the user of a derivation asks for, as one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scansearch.errors import InputError
from scansearch.records.preferences import Preferences

Rule = Sequence[str] | Mapping[int, Sequence[str]]


@dataclass(frozen=True)
class Wishes:
    """How many directions, which ones, and what they may cost; see :func:`scansearch.derive`.

    Attributes:
        budgets: by measure, the largest total; None for no limit.
    """

    k: int | None = None
    k_min: int | None = None
    k_max: int | None = None
    per_layer_k: Sequence[int] | Mapping[int, int] | None = None
    budgets: Mapping[str, float | None] = field(default_factory=dict)
    require: Rule | None = None
    forbid: Rule | None = None
    pair_flips: bool = False

    @property
    def limits(self) -> dict[str, float]:
        """The budgets that are set."""
        return {measure: float(limit) for measure, limit in self.budgets.items() if limit is not None}

    @property
    def says_no_k(self) -> bool:
        return self.k is None and self.k_min is None and self.k_max is None and self.per_layer_k is None

    def sizes(
        self, preferences: Preferences, offered: Sequence[int] | None = None
    ) -> tuple[list[int], list[int]]:
        """Least and most directions of every layer.

        ``offered`` is how many candidates a layer had before those that are one scan were merged; up to that number
        may be asked for, and the layer then gets all of its scans.

        Raises:
            InputError: contradictory or impossible numbers, or none.
        """
        counts = [len(names) for names in preferences.candidates]
        single = self._single_layers(len(counts))
        if self.k is not None and (self.k_min is not None or self.k_max is not None):
            raise InputError("give either k, or k_min and k_max")
        if self.k is None and self.k_min is None and self.k_max is None and len(single) < len(counts):
            raise InputError(
                "how many directions per layer? give k, or k_min and k_max, or per_layer_k for every layer"
            )
        least, most = [], []
        for layer, (count, allowed) in enumerate(zip(counts, offered or counts, strict=True)):
            if layer in single:
                low = high = _whole(single[layer], f"per_layer_k of layer {layer}", layer, allowed)
            elif self.k is not None:
                low = high = _whole(self.k, "k", layer, allowed)
            else:
                low = _whole(1 if self.k_min is None else self.k_min, "k_min", layer, allowed)
                high = _whole(allowed if self.k_max is None else self.k_max, "k_max", layer, allowed)
                if low > high:
                    raise InputError(f"k_min = {low} is above k_max = {high}")
            least.append(min(low, count))
            most.append(min(high, count))
        return least, most

    def _single_layers(self, layers: int) -> dict[int, int]:
        """The layers that have a k of their own."""
        if self.per_layer_k is None:
            return {}
        if isinstance(self.per_layer_k, Mapping):
            single = dict(self.per_layer_k)
        elif len(self.per_layer_k) == layers:
            single = dict(enumerate(self.per_layer_k))
        else:
            raise InputError(
                f"per_layer_k lists {len(self.per_layer_k)} layers, the preferences have {layers}"
            )
        for layer in single:
            if layer not in range(layers):
                raise InputError(f"per_layer_k names layer {layer} (allowed: 0..{layers - 1})")
        return single


def _whole(value: int, name: str, layer: int, count: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{name} = {value!r} is not a whole number")
    if not 1 <= value <= count:
        raise InputError(f"{name} = {value}: layer {layer} has {count} candidates (allowed: 1..{count})")
    return value
