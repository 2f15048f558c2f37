"""A search as its run folder left it, for what comes after searching."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scansearch.errors import InputError
from scansearch.files.strict import load_yaml
from scansearch.records.preferences import Preferences
from scansearch.records.space import SearchSpace
from scansearch.runs.folder import Checkpoint, Run
from scansearch.searching.assembly import assemble_search
from scansearch.searching.config import SearchConfig
from scansearch.searching.selection import as_preferences, select
from scansearch.searching.task import SearchTask

Warn = Callable[[str], None]


@dataclass(frozen=True)
class ReopenedSearch:
    """A search with the weights and alphas of ``checkpoint``, the last intact one of its ``run``."""

    run: Run
    checkpoint: Checkpoint
    task: SearchTask


def open_search(folder: str | Path, *, warn: Warn = warnings.warn) -> ReopenedSearch:
    """The search in a run folder.

    Args:
        warn: hears of every damaged checkpoint that was passed over for an older one.

    Raises:
        InputError: no run there, one without a checkpoint, or one whose data are gone.
    """
    run = Run.open(folder)
    config = load_yaml(run.folder / "config.yaml", SearchConfig)
    space = load_yaml(run.folder / "space.yaml", SearchSpace)
    checkpoint = run.load_checkpoint()
    if checkpoint is None:
        raise InputError(f"run {str(run.folder)!r} has no checkpoint yet")
    for warning in checkpoint.warnings:
        warn(warning)
    task = assemble_search(config, space)
    task.load(checkpoint.tensors, checkpoint.task_state)
    return ReopenedSearch(run, checkpoint, task)


def select_unfinished(folder: str | Path, *, warn: Warn = warnings.warn) -> Preferences:
    """The preferences of a run that has not selected yet: its own selection, from its last intact checkpoint.

    ``warn`` hears of it, because it may take a while. The run folder stays as it is.

    Raises:
        InputError: no run there, or one without a checkpoint.
    """
    search = open_search(folder, warn=warn)
    selection = search.task.config.selection
    warn(f"run {str(folder)!r} is not finished: selecting by {selection} from {search.checkpoint.path.name}")
    return as_preferences(search.task, selection, select(search.task).scores, run=Path(folder).name)
