"""A short training from scratch, whole in memory: the truth that cheap scores of genotypes are compared with.

For a real training, with checkpoints and augmentation, see :mod:`scansearch.training`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from pydantic import Field
from torch import nn

from scansearch import engine
from scansearch.data import ImageData, Split, training_batches
from scansearch.errors import RunStopped
from scansearch.files.strict import StrictModel
from scansearch.models.decay import weight_decay_groups
from scansearch.seeding import Stream, seed_everything

if TYPE_CHECKING:
    from accelerate import Accelerator

    from scansearch.models.backbone import ScanBackbone
    from scansearch.records.genotype import Genotype


class BriefRecipe(StrictModel):
    """AdamW with betas (0.9, 0.999), linear warm-up by step, cosine to zero, plain cross-entropy.

    The defaults are those of ``vim8-bench``. ``warmup`` is a share of the steps; weight decay applies to
    matrices and filters only.
    """

    steps: int = Field(default=600, ge=1)
    batch_size: int = Field(default=32, ge=1)
    lr: float = Field(default=5e-3, gt=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    weight_decay: float = Field(default=0.05, ge=0)
    clip_norm: float = Field(default=1.0, gt=0)


def brief_score(
    genotype: Genotype, data: ImageData, recipe: BriefRecipe, *, seed: int, accelerator: Accelerator
) -> engine.Metrics:
    """``loss`` (nats) and ``accuracy`` (percent) on the validation images, of a fresh model after a brief training.

    Raises:
        RunStopped: the loss is not finite.
    """
    seed_everything(Stream.WEIGHTS, seed)
    size: dict[str, Any] = {
        "num_classes": len(data.classes),
        "in_chans": data.channels,
        "img_size": data.image_size,
    }
    model = cast("ScanBackbone", genotype.build(**size))
    train_briefly(model, data.train, recipe, seed=seed, device=accelerator.device)
    return engine.score(
        model.eval(),
        data.validation,
        len(data.classes),
        batch_size=4 * recipe.batch_size,
        accelerator=accelerator,
    )


def train_briefly(
    model: ScanBackbone, train: Split, recipe: BriefRecipe, *, seed: int, device: str | torch.device = "cpu"
) -> float:
    """Train ``model`` in place on ``train``; returns the mean training loss (nats) of the last tenth of the steps.

    The result is a pure function of the model's weights, the data, the recipe and ``seed`` (on one thread count).

    Raises:
        RunStopped: the loss is not finite.
    """
    model.to(device).train()
    optimizer = torch.optim.AdamW(weight_decay_groups(model, recipe.weight_decay), lr=recipe.lr)
    criterion = nn.CrossEntropyLoss()
    batches = training_batches(train, recipe.batch_size, seed=seed, epoch=0, batches=recipe.steps)
    losses: list[float] = []
    for step, (images, labels) in enumerate(batches):
        seed_everything(Stream.STEP, seed, 0, step)
        rate = engine.cosine(step, recipe.steps, round(recipe.warmup * recipe.steps), recipe.lr)
        engine.set_learning_rate(optimizer, rate)
        loss = criterion(model(images.to(device)).float(), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()
        losses.append(float(loss.detach()))
        if losses[-1] != losses[-1]:
            raise RunStopped(f"the loss is not a number at step {step + 1} of a brief training")
    last = losses[-max(1, recipe.steps // 10) :]
    return sum(last) / len(last)
