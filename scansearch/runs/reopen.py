"""A search as its run folder left it, for what comes after searching."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scansearch import engine
from scansearch.data import load_data
from scansearch.errors import InputError
from scansearch.files.strict import load_yaml
from scansearch.records.costs import Costs
from scansearch.records.preferences import Preferences
from scansearch.records.space import SearchSpace
from scansearch.runs.folder import Run
from scansearch.searching.config import SearchConfig
from scansearch.searching.selection import as_preferences, select
from scansearch.searching.task import SearchTask


def open_search(folder: str | Path) -> tuple[SearchTask, SearchSpace]:
    """The search in a run folder with the weights and alphas of its last intact checkpoint, and its space.

    Raises:
        InputError: no run there, one without a checkpoint, or one whose data are gone.
    """
    run = Run.open(folder)
    config = load_yaml(run.folder / "config.yaml", SearchConfig)
    space = load_yaml(run.folder / "space.yaml", SearchSpace)
    checkpoint = run.load_checkpoint()
    if checkpoint is None:
        raise InputError(f"run {str(run.folder)!r} has no checkpoint yet")
    data = load_data(
        config.data,
        image_size=config.image_size or space.variant(config.variant).image_size,
        augment=config.augment,
        max_broken=config.max_broken,
    )
    costs = Costs.load(run.folder / "costs.json")
    accelerator = engine.make_accelerator(config.device, config.mixed_precision)
    task = SearchTask(config, space, data, accelerator, costs=costs)
    task.load(checkpoint[0], checkpoint[1]["task"])
    return task, space


def select_unfinished(folder: str | Path, tell: Callable[[str], None] = lambda line: None) -> Preferences:
    """The preferences of a run that has not selected yet: its own selection, from its last intact checkpoint.

    ``tell`` hears of it, because it may take a while. The run folder stays as it is.

    Raises:
        InputError: no run there, or one without a checkpoint.
    """
    task, space = open_search(folder)
    name = task.config.selection
    tell(f"run {str(folder)!r} is not finished: selecting by {name} from its last checkpoint")
    return as_preferences(task, space, name, select(task).scores, run=Path(folder).name)
