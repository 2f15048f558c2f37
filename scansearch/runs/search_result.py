"""What a search gives, as values and in words (``summary.md``)."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scansearch.records.genotype import Genotype
from scansearch.records.heads import FIGURES, TaskName
from scansearch.records.preferences import Preferences
from scansearch.runs.folder import Run
from scansearch.runs.overview import search_next
from scansearch.runs.verification import Verified, verified_best
from scansearch.searching.diagnostics import Diagnosis
from scansearch.tasks import find_task
from scansearch.text import human

if TYPE_CHECKING:
    from scansearch.display.frames import DataFrame
    from scansearch.display.homes import Figure
    from scansearch.searching.config import SearchConfig
    from scansearch.searching.evolution import Evolution
    from scansearch.searching.supernet import Supernet


@dataclass(frozen=True)
class SearchResult:
    """What :func:`scansearch.search` gives."""

    supernet: Supernet
    preferences: Preferences
    run: Run
    evolution: Evolution | None = None

    def __repr__(self) -> str:
        return f"<SearchResult in {str(self.run.folder)!r}: {repr(self.preferences).strip('<>')}>"

    def _repr_html_(self) -> str:
        return self.run._repr_html_()

    def to_frame(self) -> DataFrame:
        """The preferences as a pandas table, see :meth:`scansearch.Preferences.to_frame`."""
        return self.preferences.to_frame()

    def plot(self, kind: str = "preferences", *, layer: int | None = None) -> Figure:
        """``preferences``, or their ``movement`` over the epochs, as a Figure; see :meth:`scansearch.Run.plot`."""
        return self.run.plot(kind, layer=layer)


@dataclass(frozen=True)
class RunResult:
    """What ``scansearch run`` gives.

    Accuracies are in percent, and of task ``segment`` they are mIoUs; ``costs`` are the genotype's totals by measure;
    ``merged`` tells which candidates were searched as one because they are the same scan; ``verified`` are the brief
    trainings after the search.
    """

    run: Run
    preferences: Preferences
    genotype: Genotype
    test_accuracy: float
    validation_accuracy: float
    baseline: tuple[str, float] | None
    costs: dict[str, float]
    diagnosis: Diagnosis
    merged: tuple[str, ...] = ()
    verified: tuple[Verified, ...] = ()
    task: TaskName = "classify"

    @property
    def score_title(self) -> str:
        """The name of the accuracies."""
        return find_task(self.task).score_title


def genotype_line(result: RunResult) -> str:
    """Hash and size of the derived model."""
    parameters, flops = human(result.costs["params"]), human(result.costs["flops"])
    return f"genotype {result.genotype.hash}: {parameters} parameters, {flops} FLOPs an image"


def summary_markdown(result: RunResult, config: SearchConfig) -> str:
    """The summary of a finished run as Markdown."""
    genotype, preferences = result.genotype, result.preferences
    epochs = len(result.run.metrics("epoch"))
    lines = [
        f"# {preferences.space}/{preferences.variant}, strategy {config.strategy}, seed {config.seed}",
        "",
        f"Supernet on `{config.data}` after {epochs} epochs: test {result.score_title} {result.test_accuracy:.2f} %, "
        f"validation {result.score_title} {result.validation_accuracy:.2f} %.",
    ]
    if result.baseline is not None:
        name, accuracy = result.baseline
        lines.append(f"Baseline to beat: {accuracy:.2f} % ({name}).")
    lines += [
        "",
        f"{genotype_line(result)}.",
        "",
        "| layer | directions | preference | margin | noise | entropy |",
        "| ---: | --- | --- | ---: | ---: | ---: |",
    ]
    searched = result.verified[0].genotype if result.verified else genotype
    for layer, (names, diagnosis) in enumerate(zip(genotype.layers, result.diagnosis.layers, strict=True)):
        scores = dict(preferences.ranked(layer))
        values = " ".join(f"{scores[name]:.3f}" for name in names)
        figures = (diagnosis.margin, diagnosis.noise)
        margin, noise = (f"{x:+.4f}" if x is not None else "" for x in figures)
        if names != searched.layers[layer]:
            margin, noise = "verified", ""
        row = (str(layer), " ".join(names), values, margin, noise.lstrip("+"), f"{diagnosis.entropy:.3f}")
        lines.append(f"| {' | '.join(row)} |")
    if result.verified:
        lines += ["", *_verification(result.verified)]
    elif result.task == "classify":
        lines += ["", f"{unverified(config.data)}."]
    if result.merged:
        lines += ["", "Candidates that are one scan:", "", *(f"* {line}" for line in result.merged)]
    gaps = result.diagnosis.gaps
    measure = next(name for name in gaps if name != "loss")
    lines += [
        "",
        "Margin: the least preferred chosen direction over the most preferred one left out; noise: its standard",
        "deviation over the last epochs. Entropy of the gates: 1 is undecided, 0 is one-hot.",
        "",
        "Discretisation gap (supernet minus the sub-network with inherited weights, on validation): "
        f"{gaps[measure]:+.2f} points of {FIGURES[measure]}, {gaps['loss']:+.4f} nats of loss.",
        *(f"\nWarning: {warning}" for warning in result.diagnosis.warnings),
        "",
        "![preferences](plots/preferences.png)",
        "",
        "Next:",
        "",
        *(f"    {command}" for command in search_next(result.run.folder, genotype, result.task)),
        "",
    ]
    return "\n".join(lines)


def verdict(verified: Sequence[Verified]) -> str:
    """What a verification says of the search, in one sentence."""
    best = verified_best(verified)
    control = next((one for one in verified if one.rank is None), None)
    if control is None:
        return f"verified: {best.source} was best of {len(verified)}"
    gain = control.loss - min(one.loss for one in verified if one.rank is not None)
    compared = f"{abs(gain):.3f} nats {'below' if gain >= 0 else 'above'} that of one drawn at random"
    return (
        f"verified: {best.source} was best of {len(verified)} brief trainings; the lowest validation loss of a "
        f"genotype of the search is {compared} (one training each: a hint, no proof)"
    )


def unverified(data: str) -> str:
    """What is not known of a genotype that nothing was compared with, and how to learn it."""
    return (
        "Not tried: whether these directions are better than random ones. run --verify 5 trains some of both, "
        f"scansearch probe --data {shlex.quote(data)} tells whether directions matter on these images at all"
    )


def _verification(verified: Sequence[Verified]) -> list[str]:
    lines = [
        f"{verdict(verified).capitalize()}.",
        "",
        "| genotype | directions | loss | accuracy % |",
        "| --- | --- | ---: | ---: |",
    ]
    for one in verified:
        layers = " / ".join(" ".join(names) for names in one.genotype.layers)
        lines.append(f"| {one.source} | {layers} | {one.loss:.4f} | {one.accuracy:.2f} |")
    return lines
