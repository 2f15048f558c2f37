"""Preferences, k and budgets in, the provably best genotype out.

    maximise    the summed preference of the chosen directions
    subject to  k (or k_min..k_max) directions in every layer, and every budget

Ties go to lower FLOPs, then fewer parameters, then lower latency, then fewer directions, then the names in
alphabetical order, first layer first. Preferences are compared in steps of 2**-40 of the largest one, so that
rounding in a mean over seeds decides nothing. Budgets are compared with correctly rounded sums.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from scansearch.derivation.agreement import seed_agreement
from scansearch.derivation.lexicographic import best_choice, cheapest_total, highest_total
from scansearch.derivation.question import Chosen, Question
from scansearch.derivation.subject import Subject
from scansearch.derivation.wishes import Rule, Wishes
from scansearch.errors import InputError
from scansearch.records.costs import MEASURES, Costs
from scansearch.records.genotype import Certificate, Genotype
from scansearch.records.preferences import Preferences
from scansearch.records.space import SearchSpace, load_space
from scansearch.text import choices, number


def derive(
    preferences: Preferences | Sequence[Preferences],
    k: int | None = None,
    *,
    k_min: int | None = None,
    k_max: int | None = None,
    per_layer_k: Sequence[int] | Mapping[int, int] | None = None,
    costs: Costs | None = None,
    max_flops: float | None = None,
    max_params: float | None = None,
    max_latency_ms: float | None = None,
    require: Rule | None = None,
    forbid: Rule | None = None,
    pair_flips: bool = False,
    allow_equal: bool = False,
    space: SearchSpace | str | Path | None = None,
) -> Genotype:
    """The genotype with the largest summed preference within every budget, with its certificate.

    Args:
        preferences: of one run, or of several seeds of one search, whose mean is taken; their agreement is
            told in the certificate's notes.
        k: directions per layer.
        k_min, k_max: instead of ``k``, bounds on them (default 1 and all candidates).
        per_layer_k: directions of single layers, as a list over all layers or ``{layer: k}``; goes before the above.
        costs: what each direction costs; needed for budgets, used for ties.
        max_flops, max_params, max_latency_ms: budgets for the whole derived model, in the units of ``costs``.
            Latency differences below their own noise count as equal (:meth:`Costs.levelled_latency`).
        require, forbid: directions for every layer, or ``{layer: directions}``.
        pair_flips: choose each direction together with its reverse, or not at all.
        allow_equal: let candidates that are one scan at the size of the images, such as ``h`` and ``w7`` on 7x7
            tokens, be chosen beside each other, as the published models do. Otherwise their preferences are
            added up and the scan is chosen once; a layer with fewer scans than ``k`` gets all it has.
        space: where the preferences come from, when ``preferences.space`` is not enough to find it.

    Raises:
        InputError: contradictory or impossible wishes. A budget that cannot be met is named together with its
            smallest feasible value.
    """
    wishes = Wishes(
        k=k,
        k_min=k_min,
        k_max=k_max,
        per_layer_k=per_layer_k,
        budgets={"flops": max_flops, "params": max_params, "latency_ms": max_latency_ms},
        require=require,
        forbid=forbid,
        pair_flips=pair_flips,
    )
    several = _several(preferences)
    return _derive(several, _subject(several, costs, space, allow_equal), wishes, MEASURES)


def pareto_front(
    preferences: Preferences | Sequence[Preferences],
    n: int,
    *,
    costs: Costs,
    measure: str = "flops",
    k: int | None = None,
    k_min: int | None = None,
    k_max: int | None = None,
    per_layer_k: Sequence[int] | Mapping[int, int] | None = None,
    max_flops: float | None = None,
    max_params: float | None = None,
    max_latency_ms: float | None = None,
    require: Rule | None = None,
    forbid: Rule | None = None,
    pair_flips: bool = False,
    allow_equal: bool = False,
    space: SearchSpace | str | Path | None = None,
) -> list[Genotype]:
    """Up to ``n`` genotypes of which none is beaten in both summed preference and ``measure``, cheapest first.

    The two ends of the front are always among them (for n >= 2); the rest halves the widest gaps in cost. Fewer
    than ``n`` come back only when the front has no more. The other arguments are those of :func:`derive`; with
    neither ``k`` nor bounds every number of directions from 1 on is allowed.

    Raises:
        InputError: as :func:`derive`, an unknown measure, or ``n`` below 1.
    """
    if n < 1:
        raise InputError(f"n = {n} points of the front: at least 1 is needed")
    if measure not in costs.measures:
        raise InputError(f"measure {measure!r} is not in the costs {choices(measure, costs.measures)}")
    wishes = Wishes(
        k=k,
        k_min=k_min,
        k_max=k_max,
        per_layer_k=per_layer_k,
        budgets={"flops": max_flops, "params": max_params, "latency_ms": max_latency_ms},
        require=require,
        forbid=forbid,
        pair_flips=pair_flips,
    )
    if wishes.says_no_k:
        wishes = replace(wishes, k_min=1)
    several = _several(preferences)
    subject = _subject(several, costs, space, allow_equal)
    order = (measure, *(other for other in MEASURES if other != measure))

    def point(limit: float | None) -> tuple[float, Genotype]:
        limited = wishes if limit is None else replace(wishes, budgets={**wishes.budgets, measure: limit})
        genotype = _derive(several, subject, limited, order)
        assert genotype.certificate is not None
        return genotype.certificate.spent[measure], genotype

    front = dict([point(None)])
    highest = max(front)
    lowest = cheapest_total(subject.question(wishes), measure)
    if n > 1 and lowest < highest:
        front |= [point(lowest)]
    open_gaps = [(min(front), highest)] if len(front) > 1 else []
    while open_gaps and len(front) < n:
        open_gaps.sort(key=lambda gap: gap[0] - gap[1])
        low, high = open_gaps.pop(0)
        for limit in ((low + high) / 2, math.nextafter(high, low)):
            cost, genotype = point(limit)
            if cost > low:
                front[cost] = genotype
                open_gaps += [(low, cost), (cost, high)]
                break
    return [front[cost] for cost in sorted(front)]


def _several(preferences: Preferences | Sequence[Preferences]) -> list[Preferences]:
    several = [preferences] if isinstance(preferences, Preferences) else list(preferences)
    if not several:
        raise InputError("no preferences given: at least one run is needed")
    return several


def _subject(
    several: list[Preferences], costs: Costs | None, space: SearchSpace | str | Path | None, allow_equal: bool
) -> Subject:
    mean = Preferences.mean(several)
    home = space if isinstance(space, SearchSpace) else load_space(mean.space if space is None else space)
    return Subject.of(mean, costs, home, allow_equal=allow_equal)


def _derive(
    several: list[Preferences], subject: Subject, wishes: Wishes, tie_order: Sequence[str]
) -> Genotype:
    question, mean, costs = subject.question(wishes), subject.preferences, subject.costs
    free = best_choice(question.without_budgets(), tie_order)
    best = best_choice(question, tie_order) if question.budgets else free
    layers = question.layers(best.chosen)
    notes = [*question.rules, *subject.notes, *_budget_notes(question, free.chosen, best.chosen)]
    if best.bound > best.objective:
        notes.append(
            f"not proven optimal: the bound is {best.bound - best.objective:.3g} above the objective"
        )
    if len(several) > 1:
        notes.append(seed_agreement(several, [len(names) for names in layers]).describe())
    certificate = Certificate(
        objective=best.objective,
        bound=best.bound,
        lost_to_budget=max(0.0, free.objective - best.objective),
        k=question.describe_k(),
        budgets={f"max_{measure}": limit for measure, limit in question.budgets.items()},
        spent=question.spent(best.chosen),
        convention=costs.convention if costs else None,
        image_size=costs.image_size if costs else None,
        device=costs.device if costs else None,
        notes=tuple(notes),
    )
    provenance = mean.provenance.model_copy(update={"selection": mean.selection})
    return Genotype.of_space(
        subject.space, layers, variant=mean.variant, provenance=provenance, certificate=certificate
    )


def _budget_notes(question: Question, free: Chosen, best: Chosen) -> list[str]:
    """What each budget did, and what levelling did to the latency."""
    notes = []
    for measure, limit in question.budgets.items():
        least, most = cheapest_total(question.without_budgets(), measure), highest_total(question, measure)
        unbudgeted = question.total(measure, free)
        if least == most:
            notes.append(
                f"max_{measure} is inert: every choice with k = {question.describe_k()} costs {number(most)}"
            )
        elif most <= limit:
            notes.append(
                f"max_{measure} is inert: no choice with k = {question.describe_k()} costs above {number(most)}"
            )
        elif unbudgeted <= limit:
            notes.append(
                f"max_{measure} changes nothing: without budgets the best choice costs {number(unbudgeted)}"
            )
        else:
            notes.append(f"max_{measure} binds: without budgets the best choice costs {number(unbudgeted)}")
    if question.costs is not None and question.costs.latency_noise_ms is not None:
        measured = question.costs.of(question.layers(best))["latency_ms"]
        notes.append(
            f"latency differences below their noise count as equal; the raw figures sum to {measured:.4g} ms"
        )
    return notes
