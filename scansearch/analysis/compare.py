"""Comparison of runs: one row per model and settings, with the spread over seeds."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from scansearch.errors import InputError
from scansearch.files.strict import Counts, StrictModel, load_json, parse_yaml, read_text, validate
from scansearch.records.lookup import expect_kind
from scansearch.runs.folder import Run
from scansearch.runs.probe_run import holds_probe
from scansearch.text import spreadsheet_cell, table_cell

# What may differ between two runs of one row.
_FREE = ("seed", "device", "workers", "checkpoint_minutes", "max_broken", "track", "model")


@dataclass(frozen=True)
class Row:
    """Runs that differ in nothing but their seed.

    Attributes:
        name: what was trained or searched, and the settings that tell equal names apart.
        kind: ``train``, or ``search`` for a supernet, whose score is that of the supernet.
        score: mean test accuracy, mIoU or mask AP, as the task has it, in percent; ``deviation`` is its sample standard
            deviation over the seeds (None for one seed), ``lowest`` and ``highest`` its range.
        genotype: the hash; ``2 different`` and so on for searches that chose differently; empty for a
            baseline from timm.
        params, flops: of a trained model; FLOPs of one image. None for a search, whose score is its supernet's and
            not that of the genotype.
        latency_ms: milliseconds an image, one at a time; None where it was not measured.
    """

    name: str
    kind: str
    data: str
    genotype: str
    seeds: int
    score: float
    deviation: float | None
    lowest: float
    highest: float
    validation: float
    params: float | None = None
    flops: float | None = None
    latency_ms: float | None = None

    def record(self) -> dict[str, Any]:
        return asdict(self)


_TASKS = {"top1": "classifies", "miou": "segments", "mask_ap": "detects"}  # by the score that counts


class _Part(StrictModel):
    """A model of which only what is compared is read."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)


class _Score(_Part):
    top1: float | None = None
    miou: float | None = None
    mask_ap: float | None = None
    image_size: Counts | None = Field(default=None, min_length=2, max_length=2)


class _Result(_Part):
    kind: Literal["train", "search"]
    genotype: str | None
    params: float
    flops: float
    validation: _Score
    test: _Score

    @model_validator(mode="after")
    def _scored(self) -> _Result:
        name = next((name for name in _TASKS if getattr(self.test, name) is not None), None)
        if name is None or getattr(self.validation, name) is None:
            raise ValueError(f"test and validation need a score: {', '.join(_TASKS)}")
        return self


class _SearchNames(_Part):
    data: str
    space: str
    strategy: str


class _TrainingNames(_Part):
    data: str
    model: str


@dataclass(frozen=True)
class _Finished:
    """One finished run."""

    folder: Path
    config: dict[str, Any]
    result: dict[str, Any]

    @property
    def key(self) -> str:
        """Equal for runs of one row. A search's genotype depends on its seed, so only a training's counts."""
        settings = {name: value for name, value in self.config.items() if name not in _FREE}
        genotype = (self.result["genotype"] or self.config["model"]) if self.result["kind"] == "train" else ""
        return json.dumps([self.result["kind"], genotype, settings], sort_keys=True)

    @property
    def measure(self) -> str:
        """The score of its task, one of :data:`_TASKS`."""
        return next(name for name in _TASKS if self.result["test"][name] is not None)

    def score(self, split: Literal["validation", "test"]) -> float:
        """In percent."""
        return float(self.result[split][self.measure])

    @property
    def name(self) -> str:
        if self.result["kind"] == "search":
            return f"{self.config['space']} {self.config['strategy']}"
        return Path(self.config["model"]).name


def compare(folders: Sequence[str | Path], *, latency_device: str | None = None) -> list[Row]:
    """One row per model and settings over the finished runs in ``folders``, best score first.

    Folders of probes, which ``runs/*`` names too, are passed over.

    Args:
        latency_device: where to measure the latency of trained models, one image at a time; None for not at all.

    Raises:
        InputError: no folders, a folder twice, or one that holds no finished run.
    """
    if not folders:
        raise InputError("no runs given: at least one run folder is needed")
    paths = [path for path in map(Path, folders) if not holds_probe(path)]
    if not paths:
        raise InputError("only probes given: at least one run folder is needed")
    for path in paths:
        if [other.resolve() for other in paths].count(path.resolve()) > 1:
            raise InputError(f"run folder {str(path)!r} is given twice")
    groups: dict[str, list[_Finished]] = {}
    for path in paths:
        run = _read(path)
        groups.setdefault(run.key, []).append(run)
    measures = {runs[0].measure: runs[0] for runs in groups.values()}
    if len(measures) > 1:
        said = [f"{str(measures[name].folder)!r} {verb}" for name, verb in _TASKS.items() if name in measures]
        raise InputError(f"{' and '.join(said)}: their scores cannot be compared")
    rows = [
        _row(runs, name) for runs, name in zip(groups.values(), _names(list(groups.values())), strict=True)
    ]
    if latency_device is not None:
        rows = [
            replace(row, latency_ms=_latency(runs[0], latency_device)) if row.kind == "train" else row
            for row, runs in zip(rows, groups.values(), strict=True)
        ]
    return sorted(rows, key=lambda row: (-row.score, row.name))


def _read(path: Path) -> _Finished:
    expect_kind(path, ("training", "search"), command="compare")
    Run.open(path)  # says what is wrong with a folder that is no run
    if not (path / "result.json").is_file():
        raise InputError(f"run folder {str(path)!r} has no result.json: the run has not finished")
    config = parse_yaml(read_text(path / "config.yaml"), source=str(path / "config.yaml"))
    result = load_json(path / "result.json", _Result).model_dump()
    named = _TrainingNames if result["kind"] == "train" else _SearchNames
    validate(config, named, source=str(path / "config.yaml"))
    return _Finished(path, config, result)


def _row(runs: list[_Finished], name: str) -> Row:
    first = runs[0]
    scores = [run.score("test") for run in runs]
    genotypes = {run.result["genotype"] for run in runs}
    trained = first.result["kind"] == "train"
    return Row(
        name=name,
        kind=first.result["kind"],
        data=first.config["data"],
        genotype=f"{len(genotypes)} different" if len(genotypes) > 1 else first.result["genotype"] or "",
        seeds=len(runs),
        score=statistics.fmean(scores),
        deviation=statistics.stdev(scores) if len(scores) > 1 else None,
        lowest=min(scores),
        highest=max(scores),
        validation=statistics.fmean(run.score("validation") for run in runs),
        params=first.result["params"] if trained else None,
        flops=first.result["flops"] if trained else None,
    )


def _names(groups: list[list[_Finished]]) -> list[str]:
    """The name of each group, with the settings in which it differs from others of the same name."""
    names = []
    for group in groups:
        first = group[0]
        alike = [other[0] for other in groups if other[0].name == first.name]
        settings = [_flat(run.config) for run in alike]
        differing = {
            key for one in settings for key in one if any(other.get(key) != one[key] for other in settings)
        }
        mine = _flat(first.config)
        settings_shown = [
            f"{key}={mine[key]}" for key in sorted(differing) if key in mine and key not in _FREE
        ]
        if len(alike) > 1 and not settings_shown:
            settings_shown = [str(first.result["genotype"] or first.config["model"])]
        names.append(" ".join([first.name, *settings_shown]))
    return names


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _latency(run: _Finished, device_name: str, repeats: int = 15) -> float:
    """Median milliseconds of one image through the run's model."""
    import torch

    from scansearch.records.weights import load_weights

    if device_name not in ("cpu", "cuda") or (device_name == "cuda" and not torch.cuda.is_available()):
        raise InputError(
            f"cannot measure latency on {device_name!r} (allowed: cpu, or cuda where there is one)"
        )
    device = torch.device(device_name)
    weights = load_weights(run.folder / "best.safetensors")
    model = weights.model.to(device)
    height, width = run.result["test"]["image_size"]
    image = torch.randn(1, weights.in_chans, height, width, device=device)
    times = []
    with torch.inference_mode():
        for index in range(repeats + 3):
            start = time.perf_counter()
            model(image)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if index >= 3:  # the first ones compile and warm up
                times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def to_csv(rows: Sequence[Row]) -> str:
    """The rows as CSV text with a header."""
    import csv
    import io

    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {
                key: spreadsheet_cell(value) if isinstance(value, str) else value
                for key, value in row.record().items()
            }
        )
    return buffer.getvalue()


HEADINGS = (
    "model",
    "kind",
    "data",
    "genotype",
    "seeds",
    "test %",
    "range",
    "validation %",
    "parameters",
    "FLOPs",
    "latency",
)


def cells(row: Row) -> tuple[str, ...]:
    """The row as text, under :data:`HEADINGS`."""
    from scansearch.text import human

    spread = "" if row.deviation is None else f" ± {row.deviation:.2f}"
    return (
        row.name,
        row.kind,
        row.data,
        row.genotype,
        str(row.seeds),
        f"{row.score:.2f}{spread}",
        f"{row.lowest:.2f} to {row.highest:.2f}",
        f"{row.validation:.2f}",
        "" if row.params is None else human(row.params),
        "" if row.flops is None else human(row.flops),
        "" if row.latency_ms is None else f"{row.latency_ms:.2f} ms",
    )


def to_markdown(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + " --- |" * 4 + " ---: |" * (len(HEADINGS) - 4)]
    lines += ["| " + " | ".join(map(table_cell, cells(row))) + " |" for row in rows]
    note = (
        "± is the sample standard deviation over the seeds. A search's score is its supernet's, which has other costs "
        "than the genotypes it chose: train those to compare them."
    )
    return "\n".join([*lines, "", note, ""])
