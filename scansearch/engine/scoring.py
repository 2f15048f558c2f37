"""Scoring a model on a split."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from scansearch.data import Split, evaluation_batches
from scansearch.engine.loop import Metrics
from scansearch.errors import RunStopped

if TYPE_CHECKING:
    from accelerate import Accelerator


@torch.no_grad()
def score(
    predict: Callable[[Tensor], Tensor],
    split: Split,
    *,
    batch_size: int,
    accelerator: Accelerator,
    workers: int = 0,
) -> Metrics:
    """Mean cross-entropy (``loss``, nats) and top-1 accuracy (``accuracy``, percent) over every image of ``split``."""
    totals = torch.zeros(3, dtype=torch.float64, device=accelerator.device)
    batches = evaluation_batches(
        split, batch_size, rank=accelerator.process_index, ranks=accelerator.num_processes, workers=workers
    )
    for images, labels in batches:
        images, labels = images.to(accelerator.device), labels.to(accelerator.device)
        with accelerator.autocast():
            logits = predict(images)
        logits = logits.float()
        losses = nn.functional.cross_entropy(logits, labels, reduction="sum")
        correct = (logits.argmax(1) == labels).sum()
        totals += torch.stack(
            [losses.double(), correct.double(), torch.tensor(len(labels)).to(losses.device).double()]
        )
    totals = accelerator.reduce(totals, reduction="sum")
    loss, correct, count = totals.tolist()
    if count == 0:
        raise RunStopped("no image of a split can be read")
    return {"loss": loss / count, "accuracy": 100 * correct / count}
