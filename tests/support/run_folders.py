"""Run folders as searches and trainings leave them, written without training anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.tiny import TINY_SPACE

from scansearch.evaluation.evaluate import Evaluation
from scansearch.files.strict import dump_yaml, validate
from scansearch.records.costs import Costs
from scansearch.records.genotype import Genotype
from scansearch.records.preferences import Preferences
from scansearch.records.space import SearchSpace
from scansearch.runs.folder import Run
from scansearch.searching.config import search_config
from scansearch.training.config import train_config

NAMES = ("h", "v", "w2", "v_flip")
SCORES = ((0.4, 0.3, 0.2, 0.1), (0.1, 0.2, 0.3, 0.4))
ENVIRONMENT = {
    "python": "3.11.9",
    "platform": "Linux",
    "packages": {"scansearch": "0.1.0", "torch": "2.9"},
    "device": "cpu",
    "device_name": "a processor",
    "threads": 1,
    "command": ["scansearch", "run"],
    "seed": 0,
    "started": "2026-01-02T03:04:05+00:00",
}


def tiny_preferences() -> Preferences:
    """Two layers of four candidates."""
    return Preferences(
        space="tiny-test", variant="micro", selection="magnitude", candidates=(NAMES,) * 2, scores=SCORES
    )


def chosen_genotype() -> Genotype:
    """The two directions of each layer that :func:`tiny_preferences` prefers."""
    space = validate(TINY_SPACE, SearchSpace, source="tiny space")
    return Genotype.of_space(space, [["h", "v"], ["w2", "v_flip"]])


def tiny_costs(figures: tuple[float, ...] = (100.0, 100.0)) -> Costs:
    """Costs of both layers: FLOPs of every candidate as given, one parameter each."""
    return Costs.model_validate(
        {
            "space": "tiny-test",
            "variant": "micro",
            "image_size": [8, 8],
            "convention": "counted",
            "candidates": [NAMES, NAMES],
            "flops": {"fixed": 5.0, "table": [[figure] * 4 for figure in figures]},
            "params": {"fixed": 7.0, "table": [[1.0] * 4] * 2},
        }
    )


def evaluation(classes: tuple[str, ...] = ("cat", "dog"), **changes: Any) -> Evaluation:
    """Three of four cats and one of two dogs are right; further classes have no images."""
    rows = [[3, 1], [1, 1]] + [[0, 0]] * (len(classes) - 2)
    confusion = tuple(tuple(row + [0] * (len(classes) - 2)) for row in rows)
    fields: dict[str, Any] = {
        "model": "best.safetensors",
        "data": "digits",
        "split": "test",
        "image_size": (8, 8),
        "classes": classes,
        "images": 6,
        "loss": 0.7,
        "top1": 66.67,
        "top5": 100.0,
        "confusion": confusion,
        "device": "cpu",
    }
    return Evaluation(**(fields | changes))


def search_folder(folder: Path, *, epochs: int = 2, finished: bool = True, **options: Any) -> Path:
    """A search of the tiny space after ``epochs`` epochs; ``options`` are of its configuration."""
    config = search_config(**({"space": "tiny-test", "k": 2, "epochs": 2, "device": "cpu"} | options))
    records = {"space.yaml": dump_yaml(TINY_SPACE), "costs.json": tiny_costs().to_json()}
    content = dump_yaml(config.model_dump(mode="json", by_alias=True))
    run = Run.create(folder, content, ENVIRONMENT, records)
    _log(run, epochs, probabilities=SCORES, entropy=0.5)
    tiny_preferences().save(folder / "preferences.json")
    if finished:
        genotype = chosen_genotype()
        genotype.save(folder / "genotype.yaml")
        result = {
            "schema": 1,
            "kind": "search",
            "genotype": genotype.hash,
            **tiny_costs().of(genotype.layers),
            "validation": {"top1": 81.5},
            "test": {"top1": 80.25},
            "warnings": ["layer 1: the margin is below its noise"],
        }
        (folder / "result.json").write_text(json.dumps(result))
        (folder / "summary.md").write_text("# a search\n")
    return folder


def training_folder(
    folder: Path,
    *,
    finished: bool = True,
    test: Evaluation | None = None,
    genotype: Genotype | None = None,
    **options: Any,
) -> Path:
    """A training of the genotype of :func:`search_folder`; its weights are not there."""
    config = train_config(
        **({"model": "runs/a", "data": "digits", "epochs": 3, "device": "cpu", "batch_size": 4} | options)
    )
    genotype = genotype or chosen_genotype()
    content = dump_yaml(config.model_dump(mode="json", by_alias=True))
    run = Run.create(folder, content, ENVIRONMENT, {"genotype.yaml": genotype.to_yaml()})
    _log(run, 3 if finished else 1)
    if finished:
        score = json.loads((test or evaluation()).to_json())
        result = {
            "schema": 1,
            "kind": "train",
            "genotype": genotype.hash,
            "best_epoch": 2,
            "params": 1234.0,
            "flops": 5.6e6,
            "seconds": 3.0,
            "validation": score,
            "test": score,
        }
        (folder / "result.json").write_text(json.dumps(result))
        (folder / "summary.md").write_text("# a training\n")
    return folder


def _log(run: Run, epochs: int, **more: Any) -> None:
    for epoch in range(1, epochs + 1):
        run.log({"kind": "step", "step": epoch, "loss": 1.0})
        figures = {"loss": 1.0 / epoch, "accuracy": 50.0 + epoch}
        figures |= {f"validation_{name}": value for name, value in figures.items()}
        run.log({"kind": "epoch", "step": epoch, "epoch": epoch, **figures, **more})
