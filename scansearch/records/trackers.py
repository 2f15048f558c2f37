"""Trackers that a run can show its figures to, by name."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from scansearch.text import choices

# Name -> the package that it needs, the extra of scansearch that brings that (None: it is installed by itself), and
# its class in accelerate.tracking.
TRACKERS: dict[str, tuple[str, str | None, str]] = {
    "tensorboard": ("tensorboard", "track", "TensorBoardTracker"),
    "wandb": ("wandb", None, "WandBTracker"),
    "mlflow": ("mlflow", None, "MLflowTracker"),
    "trackio": ("trackio", None, "TrackioTracker"),
}


def _known(name: str) -> str:
    if name not in TRACKERS:
        raise ValueError(f"unknown tracker {name!r} {choices(name, TRACKERS)}")
    return name


TrackerName = Annotated[str, AfterValidator(_known)]
