"""Published figures of vision state-space models and their rivals, beside what our own builds of them count.

``tables/published.csv`` has one row per model: figures as their source prints them, the source, where they were found
again, and where sources disagree. Counts are ours, from the models as :mod:`scansearch.models.published` builds them.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from scansearch.errors import InputError
from scansearch.text import choices, human

TABLE = Path(__file__).resolve().parent / "tables" / "published.csv"

# Of each task: what it is scored by, and the columns of score, parameters and FLOPs.
TASKS = {
    "classify": ("ImageNet-1k top-1 %", "in1k_top1", "params_M", "flops_G"),
    "detect": ("COCO box AP, Mask R-CNN 1x", "maskrcnn1x_box_AP", "det_params_M", "det_flops_G"),
    "segment": ("ADE20K mIoU %, single scale", "ade20k_mIoU_SS", "seg_params_M", "seg_flops_G"),
}
# Rows of the table that we build, by the name that timm knows them by.
BUILT = {
    "LocalVim-T* (no search)": "localvim_tiny_nosearch",
    "LocalVim-T": "localvim_tiny",
    "LocalVim-T mid cls token": "localvim_tiny_midcls",
    "LocalVim-S": "localvim_small",
    "LocalVMamba-T": "localvmamba_tiny",
    "LocalVMamba-S": "localvmamba_small",
    "Vim-Ti (mid cls)": "vim_tiny",
    "Vim-S": "vim_small",
    "Vanilla-VMamba-T (v1)": "vmamba_tiny",
    "Vanilla-VMamba-S (v1)": "vmamba_small",
}
PARAMS_WITHIN, FLOPS_WITHIN = 0.01, 0.02  # of the published figure, beyond its rounding


@dataclass(frozen=True)
class Counted:
    """Our counts of a model at 224 pixels and 1000 classes.

    Attributes:
        name: as timm knows the model.
        params: their number.
        flops: in the convention of budgets; ``released_flops`` is that of the released code and the papers.
    """

    name: str
    params: int
    flops: int
    released_flops: int


@dataclass(frozen=True)
class PublishedRow:
    """One model and task.

    Attributes:
        group: kind of model: ``scan``, ``scan search``, ``ViT``, ``CNN`` and so on.
        score: in the unit of :data:`TASKS`; None where the source has none, as with the next two.
        params, flops: as printed, in units of one; of classification at 224 pixels unless the source says otherwise.
        digits: decimals of the printed parameters (in millions) and FLOPs (in billions).
        source, checked_in, disagreements: where it is from, where it was found again, what others print.
        ours: our counts; None of models that are not built here, and of the other two tasks.
    """

    model: str
    group: str
    score: float | None
    params: float | None
    flops: float | None
    digits: tuple[int, int]
    source: str
    checked_in: str
    disagreements: str
    ours: Counted | None = None

    @property
    def agrees(self) -> bool | None:
        """Whether our parameters and FLOPs are the published ones, as rounded; None where nothing is compared."""
        if self.ours is None:
            return None
        return _agrees(self.ours.params / 1e6, self.params, 1e6, self.digits[0], PARAMS_WITHIN) and _agrees(
            self.ours.released_flops / 1e9, self.flops, 1e9, self.digits[1], FLOPS_WITHIN
        )


def _agrees(ours: float, printed: float | None, unit: float, digits: int, share: float) -> bool:
    """Whether ``ours`` is within half a last digit, or ``share``, of what was printed."""
    if printed is None:
        return True
    figure = printed / unit
    return abs(ours - figure) <= max(0.5 * 10.0**-digits, share * figure)


def published_rows(task: str = "classify", *, count: bool = True) -> list[PublishedRow]:
    """The models with a score in ``task``, best first.

    Args:
        task: ``classify``, ``detect`` or ``segment``.
        count: build our models, without weights, and count them (classification only).

    Raises:
        InputError: another task.
    """
    if task not in TASKS:
        raise InputError(f"unknown task {task!r} {choices(task, TASKS)}")
    _, score, params, flops = TASKS[task]
    with TABLE.open(encoding="utf-8", newline="") as file:
        lines = [line for line in csv.DictReader(file) if line[score]]
    rows = [
        PublishedRow(
            model=line["model"],
            group=line["group"],
            score=float(line[score]),
            params=_figure(line[params], 1e6),
            flops=_figure(line[flops], 1e9),
            digits=(_decimals(line[params]), _decimals(line[flops])),
            source=line["source"],
            checked_in=line["cross_checked_in"],
            disagreements=line["disagreements"],
            ours=_count(BUILT[line["model"]])
            if count and task == "classify" and line["model"] in BUILT
            else None,
        )
        for line in lines
    ]
    return sorted(rows, key=lambda row: (-(row.score or 0), row.model))


def _figure(text: str, unit: float) -> float | None:
    return float(text) * unit if text else None


def _decimals(text: str) -> int:
    return len(text.partition(".")[2])


def _count(name: str) -> Counted:
    import torch

    from scansearch.costing.flops import full_flops, released_flops
    from scansearch.models.backbone import ScanBackbone
    from scansearch.records.lookup import published_genotype

    with torch.device("meta"):
        model = cast(ScanBackbone, published_genotype(name).build())
    params = sum(parameter.numel() for parameter in model.parameters())
    return Counted(name, params, full_flops(model, 224, 224), released_flops(model, 224, 224))


HEADINGS = ("model", "kind", "score", "parameters", "FLOPs")
COUNTED = ("our parameters", "our FLOPs", "full", "built as")


def cells(row: PublishedRow) -> tuple[str, ...]:
    """The published figures as text, under :data:`HEADINGS`."""
    return (
        row.model,
        row.group,
        "" if row.score is None else f"{row.score:.1f}",
        "" if row.params is None else f"{row.params / 1e6:.{row.digits[0]}f} M",
        "" if row.flops is None else f"{row.flops / 1e9:.{row.digits[1]}f} G",
    )


def counted_cells(row: PublishedRow) -> tuple[str, ...]:
    """Our parameters, FLOPs as the papers count and as budgets do, and the model's name, under :data:`COUNTED`."""
    ours = row.ours
    if ours is None:
        return ("",) * len(COUNTED)
    name = ours.name if row.agrees else f"{ours.name} (differs)"
    return (human(ours.params), human(ours.released_flops), human(ours.flops), name)


def notes(rows: Sequence[PublishedRow], task: str) -> list[str]:
    """What to know before figures of the table are compared."""
    lines = [f"Scores: {TASKS[task][0]}, as published; nothing here was trained by us."]
    if any(row.ours for row in rows):
        lines.append(
            "Ours: the model as built here, at 224 pixels, FLOPs as the released code and the papers count them (a "
            "multiply-add is one; LocalVim and Vim count all but the scan for one direction). Full: as budgets count, "
            "a multiply-add is two and every direction counts."
        )
    told = sum(bool(row.disagreements) for row in rows)
    if told:
        lines.append(f"Of {told} models sources disagree: --json has the source and what others print.")
    return lines
