"""Pictures of several runs or models at once, and what they show in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from scansearch.analysis.compare import compare
from scansearch.derivation.agreement import seed_agreement
from scansearch.errors import InputError
from scansearch.records.lookup import look_up
from scansearch.runs.folder import Run

SeveralPicture = Literal["agreement", "comparison", "field"]
SEVERAL: tuple[SeveralPicture, ...] = ("agreement", "comparison", "field")
_SHARES = (0.2, 0.5, 0.99)  # of all contributions


def draw_several(kind: SeveralPicture, names: Sequence[str]) -> tuple[Any, list[str]]:
    """A matplotlib Figure of ``names``, and what it shows, one line each.

    Args:
        kind: ``agreement`` of searches that differ in their seed, ``comparison`` of finished trainings (score over
            cost, with the front), or ``field``, the effective receptive fields of models.

    Raises:
        InputError: too few, or something of another kind.
    """
    if kind == "agreement":
        return _agreement(names)
    return _comparison(names) if kind == "comparison" else _fields(names)


def _agreement(names: Sequence[str]) -> tuple[Any, list[str]]:
    from scansearch.plots import agreement_figure

    if len(names) < 2:
        raise InputError("--kind agreement needs two searches or more, of different seeds")
    for name in names:
        look_up(name, ("search",), command="plot --kind agreement")
    runs = [Run.open(name) for name in names]
    several = [run.preferences for run in runs]
    if len({one.candidates for one in several}) > 1:
        raise InputError("the searches have other candidates, so they cannot be compared")
    asked = {run.config.get("k") for run in runs}
    if len(asked) > 1:
        raise InputError(f"the searches asked for different k: {', '.join(sorted(map(str, asked)))}")
    k = asked.pop()
    if type(k) is not int:
        raise InputError(f"{names[0]!r} does not say its k")
    sizes = [min(k, len(layer)) for layer in several[0].candidates]
    agreement = seed_agreement(several, sizes)
    return agreement_figure(several, sizes, agreement), [agreement.describe()]


def _comparison(names: Sequence[str]) -> tuple[Any, list[str]]:
    from scansearch.plots.training import comparison_figure, front_of

    rows = [row for row in compare(names) if row.kind == "train"]
    if not rows:
        raise InputError(
            "--kind comparison needs finished trainings: a search's score is that of its supernet"
        )
    front = front_of([(row.flops or 0.0, row.score) for row in rows])
    best = [row.name for row in rows if (row.flops or 0.0, row.score) in front]
    return comparison_figure([row.record() for row in rows]), [f"on the front: {', '.join(best)}"]


def _fields(names: Sequence[str]) -> tuple[Any, list[str]]:
    from scansearch.evaluation.receptive_field import receptive_field
    from scansearch.plots import receptive_fields_figure

    fields = [receptive_field(name) for name in names]
    lines = []
    for field in fields:
        areas = ", ".join(f"{100 * share:g} % in {100 * field.area(share):.1f} %" for share in _SHARES)
        lines.append(f"{field.title}: of all contributions, {areas} of the area")
    return receptive_fields_figure([(field.title, field.values) for field in fields]), lines
