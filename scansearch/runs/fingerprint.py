"""Fingerprint: what a run was started with, so that a resume can tell what has changed since."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from scansearch.errors import InputError
from scansearch.files.strict import Counts, StrictModel, Strings, load_json

if TYPE_CHECKING:
    from scansearch.data import ImageData

NAME = "fingerprint.json"
_MEANINGS = {"weights.json": "what the weights give that it starts from (weights.json)"}
# What may differ between a start and a resume: none of it changes the result on purpose.
FREE = ("device", "workers", "checkpoint_minutes", "max_broken")
ADDED = {"balance": "none"}  # what runs did that started before there was such a field


class Fingerprint(StrictModel):
    """The inputs of a run.

    Attributes:
        config: the configuration, as JSON values.
        records: SHA-256 of the content of the other files that a run starts from, by file name.
        classes, counts: class names in label order; number of training, validation and test images.
        images: the digest of the data, see ImageData; empty where they have no files.
        packages: versions of the packages that results depend on.
        threads: of the process.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    config: dict[str, Any]
    records: dict[str, str]
    classes: Strings
    counts: Counts
    images: str = ""
    packages: dict[str, str] = Field(default_factory=dict)
    threads: int = Field(ge=1)

    def to_json(self) -> str:
        return self.model_dump_json(by_alias=True, indent=1) + "\n"


def take_fingerprint(
    config: Mapping[str, Any],
    records: Mapping[str, str],
    data: ImageData,
    surroundings: Mapping[str, Any],
) -> Fingerprint:
    """The fingerprint of a run that starts now.

    Args:
        config: the configuration, as JSON values.
        records: file name -> text, in a canonical form.
        surroundings: see :func:`scansearch.runs.environment.environment`.
    """
    return Fingerprint(
        config=json.loads(json.dumps(config)),
        records={name: hashlib.sha256(text.encode()).hexdigest() for name, text in sorted(records.items())},
        classes=data.classes,
        counts=(data.train.count, data.validation.count, data.test.count),
        images=data.digest,
        packages=dict(surroundings["packages"]),
        threads=surroundings["threads"],
    )


def load_fingerprint(folder: Path) -> Fingerprint | None:
    """The fingerprint in a run folder; None for a run that started before there were any.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / NAME
    return load_json(path, Fingerprint) if path.is_file() else None


def compare_fingerprints(folder: Path, before: Fingerprint, now: Fingerprint) -> list[str]:
    """Warnings about what differs and may: versions and threads, one line each.

    Raises:
        InputError: a difference with which the result would be that of another experiment.
    """
    # Costs depend on the data, and the data on the configuration: the cause is told, not what follows from it.
    changes = (
        _config_changes(before.config, now.config)
        or _data_changes(before, now)
        or _record_changes(before, now)
    )
    if changes:
        raise InputError(
            f"run {str(folder)!r} cannot go on: since its start {'; '.join(changes)}. Put it back as it was, or "
            "start a new run"
        )
    warnings = [
        f"this run started with {name} {version} and goes on with {now.packages.get(name, 'none')}: the result "
        "may differ"
        for name, version in before.packages.items()
        if now.packages.get(name) != version
    ]
    if before.threads != now.threads:
        warnings.append(
            f"this run started with {before.threads} threads and goes on with {now.threads}: the result may differ "
            "in the last digits"
        )
    return warnings


def _config_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    old, new = ({**ADDED, **_flat(config)} for config in (before, now))
    names = [name for name in sorted(old.keys() | new.keys()) if name.partition(".")[0] not in FREE]
    return [
        f"{name} of config.yaml was changed from {old.get(name)!r} to {new.get(name)!r}"
        for name in names
        if old.get(name) != new.get(name)
    ]


def _record_changes(before: Fingerprint, now: Fingerprint) -> list[str]:
    return [
        f"{_MEANINGS.get(name, name)} was changed"
        for name, digest in before.records.items()
        if now.records.get(name, digest) != digest
    ]


def _data_changes(before: Fingerprint, now: Fingerprint) -> list[str]:
    changes = [f"class {name!r} of the data is new" for name in now.classes if name not in before.classes]
    changes += [f"class {name!r} of the data is gone" for name in before.classes if name not in now.classes]
    if not changes and before.classes != now.classes:
        changes.append("the classes of the data have another order")
    parts = zip(("training", "validation", "test"), before.counts, now.counts, strict=True)
    changes += [f"{old} {part} images became {new}" for part, old, new in parts if old != new]
    if not changes and before.images != now.images:
        changes.append("images were renamed, changed, or moved to another class")
    return changes


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
