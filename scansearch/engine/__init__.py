"""What searching and training share: devices, steps, schedules, state as tensors, scoring, and stopping."""

from scansearch.engine.devices import (
    available_bytes,
    check_equal_on_all_processes,
    device_name,
    from_all_processes,
    make_accelerator,
    on_any_process,
)
from scansearch.engine.loop import (
    CheckpointReady,
    EpochDone,
    Event,
    Metrics,
    StepDone,
    StopRequested,
    Task,
    drive,
)
from scansearch.engine.packing import jsonable, pack_module, pack_optimizer, unpack_module, unpack_optimizer
from scansearch.engine.schedule import cosine, set_learning_rate
from scansearch.engine.scoring import ConfusionTally, Scored, Scores, Tally, score, score_split, tally_split

__all__ = [
    "CheckpointReady",
    "ConfusionTally",
    "EpochDone",
    "Event",
    "Metrics",
    "Scored",
    "Scores",
    "StepDone",
    "StopRequested",
    "Tally",
    "Task",
    "available_bytes",
    "check_equal_on_all_processes",
    "cosine",
    "device_name",
    "drive",
    "from_all_processes",
    "jsonable",
    "make_accelerator",
    "on_any_process",
    "pack_module",
    "pack_optimizer",
    "score",
    "score_split",
    "set_learning_rate",
    "tally_split",
    "unpack_module",
    "unpack_optimizer",
]
