"""scansearch: searches the scan directions of vision state-space models.

    space    = scansearch.load_space("vim8")
    result   = scansearch.search(space, data="digits")
    genotype = scansearch.derive(result.preferences, k=4)
    model    = genotype.build(num_classes=10, img_size=28, in_chans=1)
    trained  = scansearch.train(genotype, data="digits")              # .test.top1, .run.folder
    score    = scansearch.evaluate(trained.run.folder, data="digits")

Importing this package loads neither torch nor timm; they are loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# These two share their name with a module. Importing them here, once, makes the name the function for good.
from scansearch.derive import derive
from scansearch.search import search

if TYPE_CHECKING:
    from scansearch.benchmark import bench_table as bench_table
    from scansearch.costs import Costs as Costs
    from scansearch.directions import parse_direction as parse_direction
    from scansearch.directions import register_direction as register_direction
    from scansearch.evaluation import Evaluation as Evaluation
    from scansearch.evaluation import evaluate as evaluate
    from scansearch.genotype import Genotype as Genotype
    from scansearch.pipeline import SearchResult as SearchResult
    from scansearch.preferences import Preferences as Preferences
    from scansearch.runs import Run as Run
    from scansearch.spaces import SearchSpace as SearchSpace
    from scansearch.spaces import load_space as load_space
    from scansearch.training_run import TrainResult as TrainResult
    from scansearch.training_run import train as train

__version__ = "0.1.0"

_HOMES = {
    "Costs": "costs",
    "Evaluation": "evaluation",
    "Genotype": "genotype",
    "Preferences": "preferences",
    "Run": "runs",
    "SearchResult": "pipeline",
    "SearchSpace": "spaces",
    "TrainResult": "training_run",
    "bench_table": "benchmark",
    "evaluate": "evaluation",
    "load_space": "spaces",
    "parse_direction": "directions",
    "register_direction": "directions",
    "train": "training_run",
}

__all__ = ["derive", "search", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'scansearch' has no attribute {name!r}")
    value = getattr(import_module(f"scansearch.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
