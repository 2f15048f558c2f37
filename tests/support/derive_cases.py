"""Made spaces, preferences and costs for the tests of deriving, and the oracle: try everything."""

import itertools
import math

from hypothesis import strategies as st

from scansearch.derivation.derive import derive
from scansearch.files.strict import validate
from scansearch.records.costs import Costs
from scansearch.records.preferences import Preferences
from scansearch.records.provenance import Provenance
from scansearch.records.space import SearchSpace

NAMES = ["h", "h_flip", "v", "v_flip", "w2", "w2_flip"]

# Two layers with what they want, and costs that are equal or not.
TWO = [["h", "v", "w2"], ["h", "v", "w2"]]
FLAT = [[5, 5, 5], [5, 5, 5]]
PADDED = [[5, 5, 9], [5, 5, 9]]
WANTED = [[0.2, 0.3, 0.5], [0.5, 0.2, 0.3]]


def make_space(candidates) -> SearchSpace:
    size = {
        "image_size": 8,
        "depth": len(candidates),
        "backbone": {"patch_size": 2, "states": 2},
        "supernet": {"embed_dim": 8},
        "derived": {"embed_dim": 8},
    }
    data = {"schema": 1, "name": "made", "family": "local_vim", "default_variant": "only"}
    lists = [list(names) for names in candidates]
    return validate(data | {"candidates": lists, "variants": {"only": size}}, SearchSpace, source="made")


def make_preferences(candidates, scores, **provenance) -> Preferences:
    return Preferences(
        space="made",
        variant="only",
        selection="magnitude",
        candidates=[tuple(names) for names in candidates],
        scores=[tuple(map(float, row)) for row in scores],
        provenance=Provenance(**provenance),
    )


def make_costs(candidates, flops, params=None, latency=None, noise=None, fixed=0.0, **fields) -> Costs:
    def table(rows):
        return {"fixed": fixed, "table": [tuple(map(float, row)) for row in rows]}

    data = {
        "image_size": [8, 8],
        "convention": "made up",
        "candidates": [tuple(names) for names in candidates],
        "flops": table(flops),
        "params": table(flops if params is None else params),
    }
    if latency is not None:
        data["latency_ms"] = table(latency)
    if noise is not None:
        data["latency_noise_ms"] = [tuple(map(float, row)) for row in noise]
    return Costs.model_validate(data | fields)


def subsets(names, least, most):
    for size in range(least, most + 1):
        yield from itertools.combinations(names, size)


def brute_force(preferences, costs, least, most, budgets):
    """The best layers by the documented order, or None."""

    def key(layers):
        score = math.fsum(
            preferences.scores[layer][preferences.candidates[layer].index(name)]
            for layer, names in enumerate(layers)
            for name in names
        )
        totals = costs.of(layers)
        spelled = [
            name not in chosen
            for chosen, names in zip(layers, preferences.candidates, strict=True)
            for name in sorted(names)
        ]
        count = sum(map(len, layers))
        return (-score, *(totals[measure] for measure in costs.measures), count, spelled)

    choices = itertools.product(
        *(
            subsets(names, low, high)
            for names, low, high in zip(preferences.candidates, least, most, strict=True)
        )
    )
    allowed = [
        layers
        for layers in choices
        if all(costs.of(layers)[measure] <= limit for measure, limit in budgets.items())
    ]
    return min(((key(layers), layers) for layers in allowed), default=None)


@st.composite
def instances(draw, figures):
    candidates = [
        draw(st.permutations(NAMES).map(lambda names: names[:4])) for _ in range(draw(st.integers(1, 3)))
    ]
    table = st.tuples(*(st.tuples(*[figures] * 4) for _ in candidates))
    costs = make_costs(candidates, draw(table), draw(table), draw(table))
    preferences = make_preferences(candidates, draw(table))
    low, high = sorted(draw(st.tuples(st.integers(1, 3), st.integers(1, 4))))
    # budgets at a choice's own totals make the limit itself matter
    some = [draw(st.permutations(names))[: draw(st.integers(low, high))] for names in candidates]
    totals = costs.of(some)
    budgets = {measure: totals[measure] for measure in draw(st.sets(st.sampled_from(costs.measures)))}
    return preferences, costs, low, high, budgets


def derived(preferences, costs, low, high, budgets):
    limits = {f"max_{measure}": limit for measure, limit in budgets.items()}
    space = make_space(preferences.candidates)
    return derive(preferences, k_min=low, k_max=high, costs=costs, space=space, **limits)
