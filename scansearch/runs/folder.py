"""The run folder: atomic writes, configuration, metrics, checkpoints, resume.

    config.yaml        what was asked          genotype.yaml      the chosen directions
    environment.json   where it ran            plots/             pictures
    metrics.jsonl      one line per step       summary.md         the result in words
    preferences.json   scores per layer        checkpoints/       the last two
    report.html        the result as a page

Every file is written to a temporary name, flushed to disk and renamed, so that a reader never sees half
of one. ``metrics.jsonl`` grows by whole lines; lines that are no records are passed over on reading.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scansearch.data.specifications import without_folders
from scansearch.errors import InputError, RunStopped
from scansearch.files.atomic import new_folder, write_bytes, write_text
from scansearch.files.in_place import append_line, check_no_link
from scansearch.files.lock import held
from scansearch.files.regular import similar
from scansearch.files.strict import parse_yaml, read_text
from scansearch.files.temporary import remove_abandoned
from scansearch.records.costs import Costs
from scansearch.records.genotype import Genotype
from scansearch.records.preferences import Preferences
from scansearch.records.timm_model import TimmModel, TrainedModel

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from scansearch.display.frames import DataFrame
    from scansearch.display.homes import Figure

TIMM_MODEL = "model.yaml"  # of a baseline from timm, in place of genotype.yaml
PARTS = ("checkpoints", "plots", "rank", "tensorboard")  # folders inside a run's


@dataclass(frozen=True)
class Checkpoint:
    """A state that a run was saved in.

    Attributes:
        path: the file that it was read from.
        tensors, state: what :func:`scansearch.engine.drive` resumes from.
        warnings: newer checkpoints that were passed over because they are damaged, one line each.
    """

    path: Path
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    warnings: tuple[str, ...] = ()

    @property
    def step(self) -> int:
        """Steps that were done, over the whole run."""
        return int(self.state["progress"]["step"])

    @property
    def task_state(self) -> dict[str, Any]:
        """What :meth:`scansearch.engine.Task.load` takes beside the tensors."""
        task: dict[str, Any] = self.state["task"]
        return task


class Run:
    """One run folder. Create a new one with :meth:`create`, look at an existing one with :meth:`open`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(
        cls,
        folder: Path,
        config_yaml: str,
        environment: Mapping[str, Any],
        records: Mapping[str, str] | None = None,
    ) -> Run:
        """A new run in ``folder``, which may exist but must be empty.

        The folder appears whole or not at all: it is filled aside and then renamed.

        Args:
            records: further files, name -> text.

        Raises:
            InputError: the folder holds something, is a file, or cannot be written.
        """
        if (folder / "config.yaml").exists():
            raise InputError(f"output folder {str(folder)!r} already holds a run; choose another --out")
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"output folder {str(folder)!r} is not empty; choose another --out")
        files = {"environment.json": json.dumps(environment, indent=1) + "\n", "config.yaml": config_yaml}
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with new_folder(folder) as aside:
                for part in ("checkpoints", "plots"):
                    (aside / part).mkdir()
                for name, text in {**files, **(records or {})}.items():
                    write_text(aside / name, text)
        except (OSError, RunStopped) as error:
            cause = error.__cause__ if isinstance(error, RunStopped) else error
            reason = getattr(cause, "strerror", None) or cause
            raise InputError(f"output folder {str(folder)!r} cannot be written: {reason}") from None
        return cls(folder)

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """The run in ``folder``.

        Raises:
            InputError: the folder is missing or holds no run, or a folder inside it is a link.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f"run folder {str(folder)!r} does not exist{similar(folder)}")
        if not (folder / "config.yaml").is_file():
            raise InputError(f"folder {str(folder)!r} holds no run (config.yaml is missing)")
        for part in PARTS:
            check_no_link(folder / part)
        return cls(folder)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def _repr_html_(self) -> str:
        from scansearch.display.homes import home

        text: str = home("run as html")(self)
        return text

    @property
    def preferences(self) -> Preferences:
        """What the search preferred, from ``preferences.json``."""
        return Preferences.load(self.folder / "preferences.json")

    @property
    def genotype(self) -> Genotype:
        """The chosen directions, from ``genotype.yaml``.

        Raises:
            InputError: there is none (yet), as of a baseline from timm, or it is damaged.
        """
        if (self.folder / TIMM_MODEL).is_file():
            raise InputError(f"run {str(self.folder)!r} trains {self.trained.title}, which has no genotype")
        return Genotype.load(self.folder / "genotype.yaml")

    @property
    def trained(self) -> TrainedModel:
        """What a training trains: the genotype, or of a baseline from timm its name, from ``model.yaml``."""
        path = self.folder / TIMM_MODEL
        return TimmModel.load(path) if path.is_file() else self.genotype

    @property
    def config(self) -> dict[str, Any]:
        """What was asked, from ``config.yaml``.

        Raises:
            InputError: the file is damaged.
        """
        path = self.folder / "config.yaml"
        return parse_yaml(read_text(path), source=str(path))

    @property
    def costs(self) -> Costs:
        """What each candidate costs in each layer, from ``costs.json``, which a search has.

        Raises:
            InputError: a training, or a damaged file.
        """
        return Costs.load(self._file("costs.json", "is there in the folders of searches"))

    @property
    def result(self) -> dict[str, Any]:
        """The figures of the result, from ``result.json``.

        Raises:
            InputError: the run has not finished, or the file is damaged.
        """
        return self._mapping(self._file("result.json", "is written when the run has finished"))

    @property
    def summary(self) -> str:
        """The result in words, Markdown, from ``summary.md``.

        Raises:
            InputError: the run has not finished.
        """
        return read_text(self._file("summary.md", "is written when the run has finished"))

    def to_frame(self, kind: str = "epoch") -> DataFrame:
        """:meth:`metrics` of one ``kind`` (``epoch``, ``step``, ...) as a pandas table, a row for each record."""
        from scansearch.display.frames import table_of

        return table_of({**record} for record in self.metrics(kind))

    def plot(
        self, kind: str | None = None, *, image: np.ndarray | None = None, layer: int | None = None
    ) -> Figure:
        """A picture of the run, a matplotlib Figure.

        Args:
            kind: ``preferences`` or ``movement`` (of a search), ``curves`` (of a training), ``genotype``, or ``paths``
                (of scans); None for the most useful one.
            image: below scan paths, see :func:`scansearch.plots.scan_paths_figure`.
            layer: of scan paths (None: 0) and of the movement (None: all).

        Raises:
            InputError: a picture that there is not of this run, or not yet.
        """
        from scansearch.display.homes import drawn

        return drawn("run", self.folder, kind, image=image, layer=layer)

    @property
    def environment(self) -> dict[str, Any]:
        """Where the run started: versions, device, threads, command line.

        Raises:
            InputError: the file is missing or damaged.
        """
        return self._mapping(self.folder / "environment.json")

    def _file(self, name: str, when: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise InputError(f"run {str(self.folder)!r} has no {name}, which {when}")
        return path

    @staticmethod
    def _mapping(path: Path) -> dict[str, Any]:
        try:
            content = json.loads(read_text(path))
        except json.JSONDecodeError as error:
            raise InputError(f"{path}: not valid JSON ({error.msg} in line {error.lineno})") from None
        if not isinstance(content, dict):
            raise InputError(f"{path}: must be a mapping, not {type(content).__name__}")
        return content

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else works in this folder inside the block; what killed processes left unfinished is removed.

        Raises:
            InputError: another process does.
        """
        with held(self.folder / ".lock", f"run {str(self.folder)!r} is in use by another process"):
            for folder in (self.folder, self._checkpoints, self.folder / "plots"):
                remove_abandoned(folder)
            yield

    # --- metrics ---

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        try:
            append_line(self.folder / "metrics.jsonl", json.dumps(record))
        except OSError as error:
            raise RunStopped(
                f"cannot write {str(self.folder / 'metrics.jsonl')!r}: {error.strerror}"
            ) from error

    def metrics(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The intact records of metrics.jsonl, all or those of one ``kind`` (``step``, ``epoch``, ...)."""
        records, _ = self._records()
        return [record for record in records if kind is None or record["kind"] == kind]

    def damaged_metrics(self) -> list[int]:
        """Numbers of the lines of metrics.jsonl, from 1, that are no records; a torn last line does not count."""
        return self._records()[1]

    def forget_after(self, step: int) -> None:
        """Drop the metrics of steps after ``step``: a resumed run writes them again."""
        if not (self.folder / "metrics.jsonl").exists():
            return
        kept = [record for record in self.metrics() if record["step"] <= step]
        write_text(self.folder / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in kept))

    def _records(self) -> tuple[list[dict[str, Any]], list[int]]:
        path = self.folder / "metrics.jsonl"
        if not path.exists():
            return [], []
        lines = path.read_bytes().split(b"\n")  # the last is empty, or what a killed process was writing
        records, damaged = [], []
        for number, line in enumerate(lines, 1):
            record = _record(line)
            if record is not None:
                records.append(record)
            elif number < len(lines):
                damaged.append(number)
        return records, damaged

    # --- checkpoints ---

    def save_checkpoint(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> Path:
        """Write the checkpoint of ``step`` (a safetensors file with a checksum) and keep the last two."""
        from safetensors.torch import save

        contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        header = {"state": json.dumps(state), "step": str(step)}
        header["sha256"] = _digest(contiguous, header)
        path = self._checkpoints / f"step-{step:09d}.safetensors"
        write_bytes(path, save(contiguous, metadata=header))
        for old in self.checkpoints()[:-2]:
            old.unlink(missing_ok=True)
        return path

    def checkpoints(self) -> list[Path]:
        """The checkpoint files, oldest first."""
        return sorted(self._checkpoints.glob("step-*.safetensors"))

    def load_checkpoint(self) -> Checkpoint | None:
        """The newest intact checkpoint, or None where there is none.

        A torn or corrupt file is passed over for the one before, and a warning says so.

        Raises:
            InputError: there are checkpoints, and all are damaged.
        """
        warnings: list[str] = []
        for path in reversed(self.checkpoints()):
            try:
                tensors, state = _read_checkpoint(path)
            except Exception as error:  # any damage at all means the same: use the one before
                warnings.append(f"checkpoint {path.name} is damaged ({error}); using the one before")
                continue
            return Checkpoint(path, tensors, state, tuple(warnings))
        if warnings:
            raise InputError(f"every checkpoint in {str(self._checkpoints)!r} is damaged")
        return None

    @property
    def _checkpoints(self) -> Path:
        return self.folder / "checkpoints"


def default_folder(space: str, strategy: str, seed: int, data: str | None = None) -> Path:
    """``runs/<utc>-<space>-<data>-<strategy>-s<seed>``, made unique where runs start in the same second."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    # A genotype of unknown origin may name any space: no path may come of it.
    names = [space, *([] if data is None else [without_folders(data).removeprefix("folder:")])]
    words = [re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:80] for name in names]
    base = Path("runs") / "-".join([stamp, *filter(None, words), strategy, f"s{seed}"])
    return next(path for path in _numbered(base) if not path.exists())


def _numbered(base: Path) -> Iterator[Path]:
    yield base
    number = 2
    while True:
        yield base.with_name(f"{base.name}-{number}")
        number += 1


def _record(line: bytes) -> dict[str, Any] | None:
    """The record in a line of metrics.jsonl, or None where there is none."""
    try:
        record = json.loads(line)
    except ValueError:  # no JSON, or no UTF-8
        return None
    whole = isinstance(record, dict) and isinstance(record.get("kind"), str)
    return record if whole and type(record.get("step")) is int else None


def _digest(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> str:
    import torch

    digest = hashlib.sha256(header["state"].encode() + header["step"].encode())
    for name in sorted(tensors):
        tensor = tensors[name].cpu()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        header = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    if header.get("sha256") != _digest(tensors, header):
        raise ValueError("checksum does not match")
    return tensors, json.loads(header["state"])
