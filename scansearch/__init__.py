"""scansearch: searches the scan directions of vision state-space models.

    space    = scansearch.load_space("vim8")
    result   = scansearch.search(space, data="digits")
    genotype = scansearch.derive(result.preferences, k=4)
    model    = genotype.build(num_classes=10, img_size=28, in_chans=1)
    trained  = scansearch.train(genotype, data="digits")              # .test.top1, .run.folder
    score    = scansearch.evaluate(trained.run.folder, data="digits")
    loaded   = scansearch.load(trained.run.folder)                    # .model .transform .classes

Importing this package loads neither torch nor timm; they are loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from scansearch._version import __version__ as __version__

if TYPE_CHECKING:
    from scansearch.analysis.benchmark import bench_table as bench_table
    from scansearch.analysis.probe import Probe as Probe
    from scansearch.analysis.probe import probe as probe
    from scansearch.data.arrays import data_from_arrays as data_from_arrays
    from scansearch.data.arrays import data_from_dataset as data_from_dataset
    from scansearch.derivation.derive import derive as derive
    from scansearch.derivation.derive import pareto_front as pareto_front
    from scansearch.directions import parse_direction as parse_direction
    from scansearch.directions import register_direction as register_direction
    from scansearch.evaluation.evaluate import Evaluation as Evaluation
    from scansearch.evaluation.evaluate import evaluate as evaluate
    from scansearch.evaluation.loading import LoadedModel as LoadedModel
    from scansearch.evaluation.loading import load as load
    from scansearch.exporting import export as export
    from scansearch.records.baselines import baseline_genotype as baseline_genotype
    from scansearch.records.costs import Costs as Costs
    from scansearch.records.genotype import Genotype as Genotype
    from scansearch.records.preferences import Preferences as Preferences
    from scansearch.records.space import SearchSpace as SearchSpace
    from scansearch.records.space import load_space as load_space
    from scansearch.runs.evolve_run import evolve as evolve
    from scansearch.runs.folder import Run as Run
    from scansearch.runs.search_result import SearchResult as SearchResult
    from scansearch.runs.search_run import search as search
    from scansearch.runs.train_result import TrainResult as TrainResult
    from scansearch.runs.train_run import train as train

# Where each public name is defined. A package is a noun and a function a verb, so neither hides the other.
_HOMES = {
    "Costs": "records.costs",
    "Evaluation": "evaluation.evaluate",
    "Genotype": "records.genotype",
    "LoadedModel": "evaluation.loading",
    "Preferences": "records.preferences",
    "Probe": "analysis.probe",
    "Run": "runs.folder",
    "SearchResult": "runs.search_result",
    "SearchSpace": "records.space",
    "TrainResult": "runs.train_result",
    "baseline_genotype": "records.baselines",
    "bench_table": "analysis.benchmark",
    "data_from_arrays": "data.arrays",
    "data_from_dataset": "data.arrays",
    "derive": "derivation.derive",
    "evaluate": "evaluation.evaluate",
    "evolve": "runs.evolve_run",
    "export": "exporting",
    "load": "evaluation.loading",
    "load_space": "records.space",
    "pareto_front": "derivation.derive",
    "parse_direction": "directions",
    "probe": "analysis.probe",
    "register_direction": "directions",
    "search": "runs.search_run",
    "train": "runs.train_run",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'scansearch' has no attribute {name!r}")
    value = getattr(import_module(f"scansearch.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
