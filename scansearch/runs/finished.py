"""Trainings that are finished, in a file of a run folder: what an interrupted job need not train again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scansearch.errors import InputError
from scansearch.files.atomic import write_text
from scansearch.files.outputs import make_folder
from scansearch.files.strict import read_text


class FinishedTrainings:
    """Rows of JSON values in ``path``, which is rewritten whole after each.

    A row is a training: a key that tells which, and its figures, among them ``loss``.
    """

    def __init__(self, path: Path) -> None:
        """Raises:
        InputError: the file is damaged.
        """
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if path.exists():
            try:
                self.rows = json.loads(read_text(path))
                whole = (
                    isinstance(self.rows, list)
                    and all({"layers", "loss"} <= row.keys() for row in self.rows)
                    and all(math.isfinite(row["loss"]) for row in self.rows)
                )
            except (ValueError, TypeError, AttributeError, RecursionError):
                whole = False
            if not whole:
                raise InputError(f"{path}: damaged; remove it to train its genotypes again")

    def find(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """The row that holds all of ``key``."""
        pairs = json.loads(json.dumps(key))
        return next((row for row in self.rows if pairs.items() <= row.items()), None)

    def add(
        self, key: Mapping[str, Any], figures: Mapping[str, float], *, write: bool = True
    ) -> dict[str, Any]:
        """Keep a row; with ``write``, in the file too."""
        row: dict[str, Any] = json.loads(json.dumps({**key, **figures}))
        self.rows.append(row)
        if write:
            make_folder(self.path.parent)
            write_text(self.path, json.dumps(self.rows, indent=1) + "\n")
        return row
