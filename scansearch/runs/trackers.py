"""The figures of ``metrics.jsonl``, shown by a tracker too while a run goes on: through accelerate's trackers."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

from scansearch.errors import InputError, MissingExtra, RunStopped
from scansearch.files.atomic import write_text
from scansearch.files.strict import dump_yaml, parse_yaml, read_text
from scansearch.records.trackers import TRACKERS
from scansearch.runs.folder import Run

PROJECT = "scansearch"  # what wandb and trackio call a project, and mlflow an experiment
STATE = "tracker.yaml"  # by what a tracker finds the run again


def check_tracker(name: str | None) -> None:
    """Refuse a tracker whose package is not installed.

    Raises:
        MissingExtra: names the package. InputError: this accelerate does not know the tracker.
    """
    if name is None:
        return
    package, extra, kind = TRACKERS[name]
    if importlib.util.find_spec(package) is None:
        raise MissingExtra(package, extra, f"tracking with {name}")
    if not hasattr(importlib.import_module("accelerate.tracking"), kind):
        raise InputError(f"tracking with {name} needs a newer accelerate")


class RunTracker:
    """One run as a tracker shows it; a resumed run goes on where it was. Made on the main process alone.

    A record of kind ``step`` gives figures ``step/loss`` and so on, one of kind ``epoch`` ``epoch/validation_loss``.
    """

    def __init__(self, name: str, run: Run, step: int) -> None:
        """``step`` is the last one that the run has done already.

        Raises:
            RunStopped: the tracker cannot be started, for example without its account or network.
        """
        self.name, self.run = name, run
        try:
            self._tracker = self._made(step)
            start = getattr(self._tracker, "start", None)  # older versions start when they are made
            if start is not None:
                start()
            if step == 0:
                self._tell_settings(run.config)
            if name == "mlflow":
                identity = self._tracker.tracker.info.run_id
                write_text(run.folder / STATE, dump_yaml({"run_id": identity}))
        except Exception as error:  # whatever the library raises
            raise RunStopped(f"tracking with {name}: {type(error).__name__}: {error}") from error

    def _made(self, step: int) -> Any:
        kind = getattr(importlib.import_module("accelerate.tracking"), TRACKERS[self.name][2])
        label = self.run.folder.absolute().name
        if self.name == "tensorboard":  # it drops what an earlier part of the run wrote of later steps
            resumed = {"purge_step": step + 1} if step else {}
            return kind("tensorboard", logging_dir=str(self.run.folder), **resumed)
        if self.name == "mlflow":
            state = self.run.folder / STATE
            known = parse_yaml(read_text(state), source=str(state)) if step and state.is_file() else {}
            return kind(PROJECT, run_name=label, run_id=known.get("run_id"))
        options: dict[str, Any] = {"name": label, "resume": "allow"}
        if self.name == "wandb":
            options |= {"id": label, "dir": str(self.run.folder)}
        return kind(PROJECT, **options)

    def _tell_settings(self, config: Mapping[str, Any]) -> None:
        if self.name == "tensorboard":
            self._tracker.log({"config": f"    {dump_yaml(dict(config))}".replace("\n", "\n    ")}, step=0)
        else:
            self._tracker.store_init_configuration(_flat(config))

    def log(self, record: Mapping[str, Any]) -> None:
        """Show a record of metrics.jsonl, the numbers in it."""
        kind = record["kind"]
        figures = {
            f"{kind}/{name}": float(value)
            for name, value in record.items()
            if name not in ("kind", "step") and isinstance(value, int | float)
        }
        self._tracker.log(figures, step=record["step"])

    def close(self) -> None:
        """Write what is not written yet."""
        self._tracker.finish()


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value if isinstance(value, int | float | bool) else str(value)
    return flat
