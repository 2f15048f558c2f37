"""What run folders hold for a derivation: preferences, costs and the space."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from scansearch.errors import InputError
from scansearch.records.costs import Costs
from scansearch.records.lookup import expect_kind
from scansearch.records.preferences import Preferences
from scansearch.runs.folder import Run


def read_preferences(source: Path, *, warn: Callable[[str], None] = warnings.warn) -> Preferences:
    """The preferences in a file or a search's run folder; an unfinished run selects from its last checkpoint.

    Args:
        warn: hears of such a selection, because it may take a while.

    Raises:
        InputError: no preferences there, and no checkpoint to select from.
    """
    expect_kind(source, ("search", "preferences"), command="derive")
    if not source.is_dir():
        return Preferences.load(source)
    run = Run.open(source)
    if (source / "preferences.json").is_file():
        return run.preferences
    if not run.checkpoints():
        raise InputError(f"run {str(source)!r} has neither preferences.json nor a checkpoint yet")
    from scansearch.runs.reopen import select_unfinished

    return select_unfinished(source, warn=warn)


def first_costs(sources: Sequence[Path]) -> Costs | None:
    """The costs of the first run folder that has any."""
    files = (source / "costs.json" for source in sources)
    return next((Costs.load(file) for file in files if file.is_file()), None)


def own_space(source: Path) -> Path | None:
    """The file of the space that a run searched, where the folder has it."""
    file = source / "space.yaml"
    return file if file.is_file() else None
