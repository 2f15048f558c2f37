"""The best choice: largest preference, then lowest costs, then fewest directions, then the order of names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from scansearch.derivation.exact_choice import Choice, Integers, Problem, maximise
from scansearch.derivation.question import Chosen, Question
from scansearch.errors import InputError
from scansearch.text import number

_BITS = 40  # a step of 2**-40 of the largest figure; sums of thousands stay below 2**53
_NAMES_AT_ONCE = 20  # weights of 2**19 are still exact in milp


@dataclass(frozen=True)
class Best:
    """A best choice, its summed preference and the proven upper bound on it."""

    chosen: Chosen
    objective: float
    bound: float


@dataclass(frozen=True)
class _Steps:
    """A table in whole steps of ``size``."""

    size: float
    rows: list[Integers]

    @classmethod
    def of(cls, question: Question, table: Sequence[Sequence[float]]) -> _Steps:
        largest = max(abs(value) for row in table for value in row)
        whole = all(float(value).is_integer() for row in table for value in row)
        size = 1.0 if largest < 2**_BITS and whole else 2.0 ** (math.frexp(largest)[1] - _BITS)
        steps = [[float(round(value / size)) for value in row] for row in table]
        return cls(size, [np.array(row, dtype=np.int64) for row in question.per_item(steps)])


def best_choice(question: Question, tie_order: Sequence[str]) -> Best:
    """The best choice of ``question``; among equal preferences the measures count in ``tie_order``.

    Raises:
        InputError: a budget that cannot be met, with its smallest feasible value.
    """
    scores = _Steps.of(question, question.preferences.scores)
    tables = {
        measure: _Steps.of(question, question.tables[measure].table)
        for measure in tie_order
        if measure in question.tables
    }
    levels = [scores.rows, *([-row for row in steps.rows] for steps in tables.values())]
    levels.append([-row for row in question.sizes()])
    free = _without_limits(question, levels)
    if question.within_budgets(free):
        objective = question.objective(free)
        return Best(free, objective, objective)
    for measure in question.budgets:
        least = cheapest_total(question.without_budgets(), measure)
        if least > question.budgets[measure]:
            raise InputError(_cannot(question, measure, least))
    problem, measures = _problem(question, tables)
    while True:
        first = maximise(problem, levels[0])
        if first is None:
            raise InputError(_cannot_together(question, measures))
        chosen = _break_ties(problem, levels, first)
        if question.within_budgets(chosen):
            objective = question.objective(chosen)
            return Best(chosen, objective, objective + (first.bound - first.value) * scores.size)
        # The steps let a choice through that is over a budget by less than a step per direction: cut it off.
        cut = [np.where(taken, 1, -1).astype(np.int64) for taken in chosen]
        problem = problem.limited(cut, _sum(cut, chosen) - 1)


def cheapest_total(question: Question, measure: str) -> float:
    """The smallest total of ``measure`` within the question's budgets.

    Raises:
        InputError: the budgets cannot be met.
    """
    chosen: Chosen = _without_limits(question, [[-row for row in _ranks(question, measure)]])
    if not question.within_budgets(chosen):
        tables = {
            name: _Steps.of(question, question.tables[name].table) for name in {measure, *question.budgets}
        }
        problem, measures = _problem(question, tables)
        choice = maximise(problem, [-row for row in tables[measure].rows])
        if choice is None:
            raise InputError(_cannot_together(question, measures))
        chosen = choice.chosen
    return question.total(measure, chosen)


def highest_total(question: Question, measure: str) -> float:
    """The largest total of ``measure`` that any choice has, budgets aside."""
    return question.total(
        measure, _without_limits(question, [_Steps.of(question, question.tables[measure].table).rows])
    )


def _ranks(question: Question, measure: str) -> list[Integers]:
    """The place of each item's exact cost among all of them, 0 for the cheapest: figures below a step count too."""
    rows = [np.array(row, dtype=float) for row in question.per_item(question.tables[measure].table)]
    known = np.unique(np.concatenate(rows))
    return [np.searchsorted(known, row).astype(np.int64) for row in rows]


def _without_limits(question: Question, levels: Sequence[Sequence[Integers]]) -> list[NDArray[np.bool_]]:
    """Layers are independent: the forced items, then the best ones while they are needed or still gain."""
    chosen = []
    for layer, groups in enumerate(question.items):
        taken = question.forced[layer].copy()
        size = sum(len(group) for group, take in zip(groups, taken, strict=True) if take)
        keys = [tuple(-int(level[layer][item]) for level in levels) for item in range(len(groups))]
        for item in sorted(range(len(groups)), key=lambda item: keys[item]):
            if taken[item] or question.banned[layer][item]:
                continue
            needed = size < question.least[layer]
            gains = keys[item] < (0,) * len(levels)
            if (needed or gains) and size + len(groups[item]) <= question.most[layer]:
                taken[item] = True
                size += len(groups[item])
        chosen.append(taken)
    return chosen


def _problem(question: Question, tables: dict[str, _Steps]) -> tuple[Problem, list[str]]:
    """The question in integers, with the budgets that some choice exceeds."""
    measures = [
        measure for measure, limit in question.budgets.items() if highest_total(question, measure) > limit
    ]
    limits = []
    for measure in measures:
        fixed, steps = question.tables[measure].fixed, tables[measure]
        exact = steps.size == 1.0 and fixed.is_integer()
        slack = 0 if exact else sum(question.most) + 2
        limits.append(math.floor((question.budgets[measure] - fixed) / steps.size) + slack)
    problem = Problem(
        sizes=question.sizes(),
        least=question.least,
        most=question.most,
        forced=question.forced,
        banned=question.banned,
        costs=tuple(tables[measure].rows for measure in measures),
        limits=tuple(limits),
    )
    return problem, measures


def _break_ties(problem: Problem, levels: Sequence[Sequence[Integers]], first: Choice) -> Chosen:
    choice, values = first, levels[0]
    for level in levels[1:]:
        if choice.unique:
            return choice.chosen
        problem = problem.limited([-row for row in values], -choice.value)
        choice, values = _again(problem, level, choice), level
    problem = problem.limited([-row for row in values], -choice.value)
    if _only(problem, choice):
        return choice.chosen
    open_items = [
        (layer, item)
        for layer, row in enumerate(problem.sizes)
        for item in range(len(row))
        if not problem.forced[layer][item] and not problem.banned[layer][item]
    ]
    for start in range(0, len(open_items), _NAMES_AT_ONCE):
        if choice.unique:
            break
        weights = [np.zeros(len(row), np.int64) for row in problem.sizes]
        batch = open_items[start : start + _NAMES_AT_ONCE]
        for power, (layer, item) in enumerate(reversed(batch)):
            weights[layer][item] = 1 << power
        choice = _again(problem, weights, choice)
        forced, banned = [row.copy() for row in problem.forced], [row.copy() for row in problem.banned]
        for layer, item in batch:
            (forced if choice.chosen[layer][item] else banned)[layer][item] = True
        problem = replace(problem, forced=forced, banned=banned)
    return choice.chosen


def _only(problem: Problem, choice: Choice) -> bool:
    """Whether no other choice keeps every limit: then the one that differs most from this one is this one."""
    if choice.unique:
        return True
    differing = [np.where(taken, -1, 1).astype(np.int64) for taken in choice.chosen]
    other = _again(problem, differing, choice)
    return other.bound == _sum(differing, choice.chosen)


def _again(problem: Problem, values: Sequence[Integers], known: Choice) -> Choice:
    choice = maximise(problem, values, known)
    return known if choice is None else choice


def _sum(rows: Sequence[Integers], chosen: Chosen) -> int:
    return sum(int(row[taken].sum()) for row, taken in zip(rows, chosen, strict=True))


def _cannot(question: Question, measure: str, least: float) -> str:
    text = (
        f"max_{measure} = {number(question.budgets[measure])} cannot be met: with k = {question.describe_k()} "
        f"the smallest feasible value is {number(least)}"
    )
    if least == highest_total(question, measure):
        text += " (every choice costs that much; only fewer directions cost less)"
    return text


def _cannot_together(question: Question, measures: Sequence[str]) -> str:
    smallest = []
    for measure in measures:
        others = {name: limit for name, limit in question.budgets.items() if name != measure}
        try:
            value = cheapest_total(replace(question, budgets=others), measure)
        except InputError:
            continue
        smallest.append(f"of max_{measure} {number(value)}")
    budgets = ", ".join(f"max_{measure} = {number(question.budgets[measure])}" for measure in measures)
    text = f"{budgets} cannot be met together"
    if smallest:
        text += "; with the others as they are, the smallest feasible value is " + ", ".join(smallest)
    return text
