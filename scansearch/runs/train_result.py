"""What a training gives, as a value and in words (``summary.md``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scansearch.records.genotype import Genotype
from scansearch.records.timm_model import TrainedModel
from scansearch.runs.folder import Run
from scansearch.runs.overview import training_next
from scansearch.tasks import find_task
from scansearch.tasks.protocol import ScoreRecord
from scansearch.text import human, table_cell
from scansearch.training.config import TrainConfig

if TYPE_CHECKING:
    from scansearch.display.frames import DataFrame
    from scansearch.display.homes import Figure


@dataclass(frozen=True)
class TrainResult:
    """What a training gives.

    Attributes:
        genotype: what was trained; of a baseline from timm a :class:`~scansearch.records.timm_model.TimmModel`.
        validation, test: the best weights' scores, as the task has them; test is touched here only.
        best_epoch: counted from 1.
        figures: parameters, FLOPs an image, seconds of training.
        initial: what the weights gave that it started from, one line each; empty for fresh ones.
    """

    run: Run
    config: TrainConfig
    genotype: TrainedModel
    best_epoch: int
    validation: Any
    test: Any
    figures: dict[str, float]
    baseline: tuple[str, float] | None
    initial: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<TrainResult in {str(self.run.folder)!r}: {training_lines(self)[0]}>"

    def _repr_html_(self) -> str:
        return self.run._repr_html_()

    def to_frame(self) -> DataFrame:
        """The epochs as a pandas table, see :meth:`scansearch.Run.to_frame`."""
        return self.run.to_frame()

    def plot(self, kind: str = "curves", *, layer: int | None = None) -> Figure:
        """The curves, or another picture of a training, as a matplotlib Figure; see :meth:`scansearch.Run.plot`."""
        return self.run.plot(kind, layer=layer)


def training_lines(result: TrainResult) -> list[str]:
    """The figures that matter, one line each."""
    test: ScoreRecord = result.test
    validation: ScoreRecord = result.validation
    title = find_task(result.config.task).score_title
    lines = [
        f"test {test.describe()}",
        f"validation {title} {validation.score:.2f} % of {validation.images} images, best after epoch "
        f"{result.best_epoch} of {result.config.epochs}",
        f"{trained_name(result)}: {human(result.figures['params'])} parameters, "
        f"{human(result.figures['flops'])} FLOPs an image",
    ]
    if result.baseline is not None:
        name, accuracy = result.baseline
        lines.insert(1, f"baseline to beat: {accuracy:.2f} % ({name})")
    skipped = test.skipped + validation.skipped
    if skipped:
        lines.append(f"{skipped} images could not be read and do not count")
    return lines


def trained_name(result: TrainResult) -> str:
    """``genotype HASH``, or of a baseline from timm its name."""
    model = result.genotype
    return f"genotype {model.hash}" if isinstance(model, Genotype) else model.title


def training_markdown(result: TrainResult) -> str:
    """The summary of a finished training as Markdown."""
    config, broken = result.config, result.run.metrics("broken")
    start = "from scratch" if config.weights is None else "from given weights"
    lines = [
        f"# {table_cell(config.model)} on {table_cell(str(config.data))}, {start}, seed {config.seed}",
        "",
        *(f"* {line}" for line in training_lines(result)),
        *(f"* weights: {line}" for line in result.initial),
        "",
        *_layer_table(result),
        f"| class | test {find_task(config.task).class_title} (%) |",
        "| --- | ---: |",
    ]
    for name, accuracy in result.test.per_class.items():
        lines.append(f"| {table_cell(name)} | {'' if accuracy is None else f'{accuracy:.2f}'} |")
    if broken:
        lines += ["", f"Skipped, because they cannot be read ({len(broken)}):", ""]
        lines += [f"* {table_cell(record['image'])}: {table_cell(record['reason'])}" for record in broken]
    lines += [
        "",
        "![curves](plots/training.png)",
        "",
        *(["![confusion](plots/confusion.png)", ""] if config.task != "detect" else []),
        *(["![predictions](plots/predictions.png)", ""] if config.task != "classify" else []),
        "Next:",
        "",
        *(
            f"    {command}"
            for command in training_next(
                result.run.folder, config.task, exports=isinstance(result.genotype, Genotype)
            )
        ),
        "",
    ]
    return "\n".join(lines)


def _layer_table(result: TrainResult) -> list[str]:
    if not isinstance(result.genotype, Genotype):
        return []
    rows = (f"| {layer} | {' '.join(names)} |" for layer, names in enumerate(result.genotype.layers))
    return ["| layer | directions |", "| ---: | --- |", *rows, ""]
