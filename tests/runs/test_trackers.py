"""``--track``: the figures of metrics.jsonl in a tracker too, from the start and after a resume."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from support.tiny import TINY_SPACE
from support.trainings import tiny_genotype

import scansearch
from scansearch.errors import InputError, MissingExtra
from scansearch.files.strict import validate
from scansearch.records.space import SearchSpace
from scansearch.records.trackers import TRACKERS
from scansearch.runs.folder import Run
from scansearch.runs.trackers import RunTracker, check_tracker
from scansearch.runs.train_run import resume_training, train
from scansearch.training.config import train_config

SHORT = {
    "data": "digits",
    "epochs": 2,
    "batch_size": 256,
    "image_size": 8,
    "device": "cpu",
    "progress": False,
}


def shown(folder: Path) -> dict[str, dict[int, float]]:
    """Figure -> step -> value, as TensorBoard reads the folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    found = {name: events.Scalars(name) for name in events.Tags()["scalars"]}
    values = {name: {event.step: event.value for event in each} for name, each in found.items()}
    assert {name: len(each) for name, each in found.items()} == {
        name: len(each) for name, each in values.items()
    }
    return values


def test_tensorboard_shows_what_metrics_jsonl_has_also_after_a_resume(tmp_path: Path) -> None:
    run = train(tiny_genotype(), out=tmp_path / "run", track="tensorboard", **SHORT).run
    run.checkpoints()[-1].unlink()  # as if it had been killed in the second epoch
    (run.folder / "result.json").unlink()
    resume_training(run.folder)
    found = shown(run.folder / "tensorboard")
    records = [record for record in run.metrics() if record["kind"] in ("step", "epoch")]
    wanted = {
        (f"{record['kind']}/{name}", record["step"]): float(value)
        for record in records
        for name, value in record.items()
        if name not in ("kind", "step") and isinstance(value, int | float)
    }
    assert {("step/loss", 1), ("epoch/validation_accuracy", 8)} <= set(wanted)
    assert set(wanted) == {(name, step) for name, values in found.items() for step in values}
    for (name, step), value in wanted.items():
        assert found[name][step] == pytest.approx(value, rel=1e-6)
    assert run.config["track"] == "tensorboard"


def test_a_search_is_tracked_too(tmp_path: Path) -> None:
    space = validate(TINY_SPACE, SearchSpace, source="tiny space")
    options = SHORT | {"epochs": 1, "k": 2}
    result = scansearch.search(space, out=tmp_path / "run", track="tensorboard", **options)
    found = shown(result.run.folder / "tensorboard")
    (epoch,) = result.run.metrics("epoch")
    assert found["epoch/validation_accuracy"] == {
        epoch["step"]: pytest.approx(epoch["validation_accuracy"], rel=1e-6)
    }
    assert len(found["step/loss"]) == len(result.run.metrics("step"))


def test_a_run_without_a_tracker_writes_nothing_for_one(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(tiny_genotype(), out=folder, **SHORT | {"epochs": 1})
    assert not {"tensorboard", "tracker.yaml"} & {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_library_is_named_before_anything_is_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = TRACKERS[name][0]
    monkeypatch.setattr("importlib.util.find_spec", lambda wanted, *rest: None if wanted == package else True)
    with pytest.raises(MissingExtra, match=f"tracking with {name} needs {package}: pip install"):
        train(tiny_genotype(), out=tmp_path / "run", track=name, **SHORT)
    assert not (tmp_path / "run").exists()


def test_a_misspelt_tracker_gets_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"unknown tracker 'tensorbord' \(did you mean 'tensorboard'\?"):
        train_config(model="localvim_tiny", track="tensorbord")


class Recording(ModuleType):
    """A tracker's library that only keeps what it is told."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.started: list[dict[str, Any]] = []
        self.logged: list[tuple[dict[str, float], int]] = []
        self.settings: dict[str, Any] = {}
        self.finished = 0
        self.config = SimpleNamespace(update=lambda values, **_: self.settings.update(values))
        self.utils = SimpleNamespace(
            validation=SimpleNamespace(MAX_PARAM_VAL_LENGTH=500, MAX_PARAMS_TAGS_PER_BATCH=100)
        )

    def init(self, **options: Any) -> Any:
        self.started.append(options)
        return SimpleNamespace(log=self.log, finish=self.finish)

    def log(self, values: dict[str, float], step: int) -> None:
        self.logged.append((values, step))

    def finish(self) -> None:
        self.finished += 1

    # mlflow's own names
    def search_experiments(self, filter_string: str) -> list[Any]:
        return []

    def create_experiment(self, name: str, **_: Any) -> str:
        return name

    def start_run(self, **options: Any) -> Any:
        self.started.append(options)
        return SimpleNamespace(info=SimpleNamespace(run_id="ab12"))

    def log_params(self, values: dict[str, Any]) -> None:
        self.settings.update(values)

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        self.logged.append((values, step))

    end_run = finish


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_other_trackers_find_the_run_again(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Recording(name)
    monkeypatch.setitem(sys.modules, name, library)
    folder = tmp_path / "a run"
    folder.mkdir()
    (folder / "config.yaml").write_text(json.dumps({"seed": 3, "optimizer": {"lr": 0.1}}))
    for step in (0, 4):
        tracker = RunTracker(name, Run(folder), step)
        tracker.log({"kind": "step", "step": step + 1, "epoch": 1, "loss": 2.0, "word": "x", "nothing": None})
        tracker.close()
    first, second = library.started
    assert library.logged == [({"step/epoch": 1.0, "step/loss": 2.0}, step) for step in (1, 5)]
    assert library.settings == {"seed": 3, "optimizer.lr": 0.1}
    assert library.finished == 2
    if name == "mlflow":
        assert (first["run_id"], second["run_id"]) == (None, "ab12")
    else:
        assert first == second
        assert (first["name"], first["resume"]) == ("a run", "allow")


def test_an_installed_tracker_is_taken() -> None:
    check_tracker("tensorboard")
    check_tracker(None)
