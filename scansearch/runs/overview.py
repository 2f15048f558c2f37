"""A run folder at a glance: what was asked, what came out, where it stopped, and what to type next."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from scansearch.errors import InputError
from scansearch.files.lock import is_held, is_held_here
from scansearch.files.regular import similar
from scansearch.files.strict import parse_yaml, read_text
from scansearch.records.genotype import Genotype
from scansearch.runs.folder import Run
from scansearch.runs.probe_run import SETTINGS, holds_probe
from scansearch.searching.config import search_config
from scansearch.text import human
from scansearch.training.config import train_config

Kind = Literal["search", "training", "probe"]
State = Literal["finished", "running", "unfinished", "damaged"]

# What chooses the best weights: as results and epochs name it, and in words; what is there of these comes first.
SCORES = {"mask_ap": "mask AP", "miou": "mIoU", "top1": "accuracy"}
_DEEPEST = 6  # levels below a folder in which runs are looked for


@dataclass(frozen=True)
class RunOverview:
    """One run.

    Attributes:
        state: ``running`` while a process is at work in the folder, ``damaged`` where ``problem`` says so.
        space: of a training, that of its genotype; where it names none, what was asked to be trained.
        method: the strategy of a search; ``train`` and ``probe`` for the others.
        task: what is learned: ``classify``, ``segment`` or ``detect``.
        epoch, epochs: finished ones, and how many there are; None for a probe.
        measure: what the scores are, in words.
        score: of the test images in percent, of a finished run; of a search, that of its supernet.
        validation: that of the validation images: of the result, else of the last finished epoch.
        started: time in UTC, as ISO 8601 has it.
    """

    folder: str
    kind: Kind
    state: State
    space: str = ""
    data: str = ""
    method: str = ""
    task: str = "classify"
    seed: int | None = None
    epoch: int | None = None
    epochs: int | None = None
    measure: str = "accuracy"
    score: float | None = None
    validation: float | None = None
    genotype: str | None = None
    started: str | None = None
    problem: str = ""

    @property
    def progress(self) -> str:
        """The state in words, with the epoch where it is not finished."""
        if self.state in ("finished", "damaged") or self.epoch is None:
            return self.state
        return f"{self.state}, epoch {self.epoch} of {self.epochs}"


def overview(folder: str | Path) -> RunOverview:
    """The run in ``folder``; a damaged one is told as such.

    Raises:
        InputError: the folder is missing or holds no run.
    """
    path = Path(folder)
    if holds_probe(path):
        return _checked(path, "probe")
    run = Run.open(path)
    try:
        kind: Kind = "training" if "model" in run.config else "search"
    except InputError as error:
        return RunOverview(str(path), "search", "damaged", problem=str(error))
    return _checked(path, kind)


def _checked(path: Path, kind: Kind) -> RunOverview:
    try:
        return _probe(path) if kind == "probe" else _run(Run(path), kind)
    except (InputError, KeyError, TypeError, ValueError, AttributeError) as error:
        what = str(error) if isinstance(error, InputError) else "its files are not as scansearch writes them"
        return RunOverview(str(path), kind, "damaged", problem=what)


def _probe(path: Path) -> RunOverview:
    settings = parse_yaml(read_text(path / SETTINGS), source=str(path / SETTINGS))
    asked = settings.get("config", settings)
    finished = (path / "probe.json").is_file()
    return RunOverview(
        folder=str(path),
        kind="probe",
        state="finished" if finished else "running" if is_held(path / ".lock") else "unfinished",
        space=str(asked.get("space", "")),
        data=str(asked.get("data", "")),
        method="probe",
        seed=asked.get("seed"),
    )


def _run(run: Run, kind: Kind) -> RunOverview:
    config = run.config
    epochs = run.metrics("epoch")
    finished = (run.folder / "result.json").is_file()
    result = run.result if finished else {}
    lock = run.folder / ".lock"
    # Who has written the result and still holds the folder is writing its report.
    running = is_held(lock) and not (finished and is_held_here(lock))
    measured = result["test"] if finished else epochs[-1] if epochs else {}
    name, title = next((pair for pair in SCORES.items() if _known(measured, pair[0])), ("top1", "accuracy"))
    epoch_name = "accuracy" if name == "top1" else name
    validation = epochs[-1].get(f"validation_{epoch_name}") if epochs else None
    started = run.environment.get("started") if (run.folder / "environment.json").is_file() else None
    return RunOverview(
        folder=str(run.folder),
        kind=kind,
        state="running" if running else "finished" if finished else "unfinished",
        space=_space(run, config) if kind == "training" else str(config["space"]),
        data=str(config.get("data") or ""),
        method="train" if kind == "training" else str(config["strategy"]),
        task=str(config.get("task", "classify")),
        seed=int(config["seed"]),
        epoch=len(epochs),
        epochs=int(config["epochs"]),
        measure=title,
        score=float(result["test"][name]) if finished else None,
        validation=float(result["validation"][name]) if finished else validation,
        genotype=result["genotype"] if finished else None,
        started=None if started is None else str(started),
    )


def _space(run: Run, config: dict[str, Any]) -> str:
    """Of a training: the space that its genotype is of, else what it was asked to train."""
    known = run.genotype.space if (run.folder / "genotype.yaml").is_file() else None
    return known or str(config["model"])


def _known(record: dict[str, Any], name: str) -> bool:
    """Whether a result, or the record of an epoch, has the score ``name``."""
    return name in record or f"validation_{name}" in record


def runs_below(folder: str | Path) -> Iterator[Path]:
    """The run folders below ``folder``, or it itself, by name; hidden folders and those inside a run are passed over.

    Raises:
        InputError: the folder is missing.
    """
    top = Path(folder)
    if not top.is_dir():
        raise InputError(f"folder {str(top)!r} does not exist{similar(top)}")
    for parent, names, _ in os.walk(top):
        path = Path(parent)
        if _is_run(path):
            names.clear()
            yield path
        elif len(path.relative_to(top).parts) >= _DEEPEST:
            names.clear()
        names[:] = sorted(name for name in names if not name.startswith("."))


def _is_run(path: Path) -> bool:
    return holds_probe(path) or ((path / "config.yaml").is_file() and (path / "checkpoints").is_dir())


def next_steps(run: RunOverview) -> list[str]:
    """What a user would type next, most likely first; nothing while the run is at work."""
    folder = shlex.quote(run.folder)
    if run.state in ("running", "damaged"):
        return []
    if run.kind == "probe":
        return []
    command = "train" if run.kind == "training" else "run"
    if run.state == "unfinished":
        derive = (Path(run.folder) / "preferences.json").is_file()
        return [
            f"scansearch {command} --resume {folder}",
            *([f"scansearch derive {folder} --k {_k(run)}"] if derive else []),
        ]
    if run.kind == "training":
        return training_next(run.folder, run.task, exports=run.genotype is not None)
    return search_next(run.folder, Run(Path(run.folder)).genotype, run.task)


def _k(run: RunOverview) -> int:
    return int(Run(Path(run.folder)).config.get("k", 4))


def search_next(folder: str | Path, genotype: Genotype, task: str = "classify") -> list[str]:
    """What comes after a finished search, most likely first."""
    quoted = shlex.quote(str(folder))
    fewer = genotype.directions_per_layer[0] - 1
    return [
        f"scansearch train {quoted}" + ("" if task == "classify" else f" --task {task}"),
        *([f"scansearch derive {quoted} --k {fewer}"] if fewer else []),
        f"scansearch costs {quoted}",
    ]


def training_next(folder: str | Path, task: str = "classify", *, exports: bool = True) -> list[str]:
    """What comes after a finished training; a baseline from timm is not one of those that ``export`` writes."""
    quoted = shlex.quote(str(folder))
    export = (
        [f"scansearch export {quoted} --format standalone --out model.py"]
        if task == "classify" and exports
        else []
    )
    return [f"scansearch evaluate {quoted}", *export]


# Asked of every run, whatever the defaults are.
_ALWAYS = ("space", "variant", "model", "data", "strategy", "k", "epochs", "batch_size", "seed")


def asked(run: Run) -> dict[str, Any]:
    """What was asked, by the names of the configuration: the main settings, and all that are not at their default."""
    config = run.config
    try:
        if "model" in config:
            defaults: Any = train_config(model=config["model"])
        else:
            defaults = search_config(space=config["space"], strategy=config.get("strategy"))
        usual = _flat(defaults.model_dump(mode="json", by_alias=True))
    except (InputError, KeyError):
        usual = {}
    given = _flat(config)
    names = [name for name in _ALWAYS if name in given]
    names += [name for name in given if name not in names and given[name] != usual.get(name)]
    return {name: given[name] for name in names if given[name] is not None}


def in_words(value: Any) -> str:
    """A setting as a person reads it."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def asked_rows(run: Run) -> list[tuple[str, str]]:
    """:func:`asked` in words."""
    return [(name, in_words(value)) for name, value in asked(run).items()]


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def outcome(run: Run, seen: RunOverview) -> list[str]:
    """What came out, one line each; of an unfinished run, where it stopped."""
    if seen.state == "damaged":
        return [seen.problem]
    lines = []
    if seen.state != "finished":
        steps = run.metrics("step")
        step = f", step {steps[-1]['step']}" if steps else ""
        lines.append(f"{seen.progress}{step}")
        if seen.validation is not None:
            lines.append(f"validation {seen.measure} after the last finished epoch: {seen.validation:.2f} %")
        if seen.state == "unfinished" and not run.checkpoints():
            lines.append("no checkpoint was written yet: a resumed run starts at step 1")
        return lines
    result = run.result
    what = "supernet" if seen.kind == "search" else "model"
    lines.append(
        f"{what}: test {seen.measure} {seen.score:.2f} %, validation {seen.measure} {seen.validation:.2f} %"
    )
    trained = f"genotype {seen.genotype}" if seen.genotype is not None else seen.space
    lines.append(f"{trained}: {human(result['params'])} parameters, {human(result['flops'])} FLOPs an image")
    if "best_epoch" in result:
        lines.append(f"the weights are of epoch {result['best_epoch']} of {seen.epochs}")
    return lines


def warnings(run: Run) -> list[str]:
    """What the run warned of, in the order in which it was told; runs of earlier versions kept a part of it only."""
    result = run.result if (run.folder / "result.json").is_file() else {}
    kept = [str(text) for text in result.get("warnings", ())]
    broken = run.metrics("broken")
    if broken:
        kept.append(f"{len(broken)} images could not be read and were skipped")
    if run.damaged_metrics():
        kept.append(f"{len(run.damaged_metrics())} lines of metrics.jsonl are damaged")
    return kept


def run_html(run: Run) -> str:
    """A run as the output of a notebook: state, settings, the preferences with the chosen directions framed."""
    from scansearch.display.html import fragment, line, table

    try:
        seen = overview(run.folder)
        parts = [line(f"{seen.kind} in {run.folder}: {seen.progress}")]
        if seen.state != "damaged":
            parts.append(table(("asked", ""), asked_rows(run), left=2))
        parts += map(line, outcome(run, seen))
        genotype = run.genotype if (run.folder / "genotype.yaml").is_file() else None
        if (run.folder / "preferences.json").is_file():
            parts.append(run.preferences.heat_map(None if genotype is None else genotype.layers))
        elif genotype is not None:
            from scansearch.display.sketch import layer_strip

            parts.append(layer_strip(genotype.layers, genotype.known_grids()))
        return fragment(*parts)
    except InputError as error:
        return fragment(line(error))
