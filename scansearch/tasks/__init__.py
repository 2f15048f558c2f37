"""What is learned from images: a class for each picture or pixel, or objects; one protocol, one file a task."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from scansearch.errors import InputError
from scansearch.tasks.protocol import VisionTask
from scansearch.text import choices

TASKS = {  # name -> module that holds its TASK
    "classify": "scansearch.tasks.classification",
    "segment": "scansearch.tasks.segmentation",
    "detect": "scansearch.tasks.detection",
}


def find_task(name: str) -> VisionTask:
    """The task called ``name``.

    Raises:
        InputError: there is none.
    """
    if name not in TASKS:
        raise InputError(f"unknown task {name!r} {choices(name, TASKS)}")
    return cast(VisionTask, import_module(TASKS[name]).TASK)
