"""TrainConfig: everything that a training from scratch depends on, as one strict value and one YAML file."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from scansearch.data.augment import AugmentChoice, expand_preset
from scansearch.data.specifications import MOST_WORKERS
from scansearch.data.treatment import ImageSize
from scansearch.files.strict import (
    Counts,
    Numbers,
    StrictModel,
    apply_settings,
    parse_yaml,
    read_text,
    validate,
)
from scansearch.records.heads import HEADS, TaskHead, TaskName, head_of_task
from scansearch.records.trackers import TrackerName


class OptimizerOptions(StrictModel):
    """``name`` is any optimizer of timm's factory; None leaves a value at that optimizer's default.

    ``decay`` says which parameters decay (:mod:`scansearch.models.decay`); ``layer_decay`` multiplies the
    learning rate of each layer by that factor per layer below the head. ``clip`` is the norm, the value, or
    the adaptive ratio (``agc``) that gradients are clipped to.
    """

    name: str = "adamw"
    lr: float = Field(default=1e-2, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    decay: Literal["mamba", "released"] = "mamba"
    betas: Numbers | None = Field(default=None, min_length=2, max_length=3)
    eps: float | None = Field(default=None, gt=0)
    momentum: float | None = Field(default=None, ge=0, lt=1)
    layer_decay: float | None = Field(default=None, gt=0, le=1)
    clip: float | None = Field(default=1.0, gt=0)
    clip_mode: Literal["norm", "value", "agc"] = "norm"


class ScheduleOptions(StrictModel):
    """timm's schedules, by step: a linear warm-up from ``warmup_lr``, then down to ``min_lr`` over the rest.

    ``warmup_epochs`` None is a twentieth of the epochs. With ``warmup_by: epoch`` the rate stays the same within
    each epoch of the warm-up, at what the first step after that epoch would have. ``multistep`` multiplies the rate by
    ``factor`` (default 0.1) after each of the epochs ``milestones``, counted from the start of the run.
    """

    name: Literal["cosine", "linear", "tanh", "multistep"] = "cosine"
    milestones: Counts | None = Field(default=None, min_length=1)
    factor: float | None = Field(default=None, gt=0, lt=1)
    warmup_epochs: int | None = Field(default=None, ge=0)
    warmup_by: Literal["step", "epoch"] = "step"
    warmup_lr: float = Field(default=1e-6, ge=0)
    min_lr: float = Field(default=1e-6, ge=0)


class MixOptions(StrictModel):
    """mixup and cutmix (timm's ``Mixup``); both 0 is off. ``switch`` is the share of cutmix where both are on."""

    mixup: float = Field(default=0.0, ge=0)
    cutmix: float = Field(default=0.0, ge=0)
    probability: float = Field(default=1.0, ge=0, le=1)
    switch: float = Field(default=0.5, ge=0, le=1)
    mode: Literal["batch", "pair", "elem"] = "batch"


class EraseOptions(StrictModel):
    """Random erasing of parts of the normalised images, per image, before mixup."""

    probability: float = Field(default=0.0, ge=0, le=1)
    mode: Literal["const", "rand", "pixel"] = "pixel"
    max_count: int = Field(default=1, ge=1)


class EmaOptions(StrictModel):
    """A moving average of the weights, which is then what is validated and kept as the best.

    With ``warmup`` the decay rises to ``decay`` with the steps.
    """

    decay: float = Field(default=0.9999, gt=0, lt=1)
    warmup: bool = False


class TrainConfig(StrictModel):
    """What one training does.

    Attributes:
        task: ``classify`` pictures, ``segment`` them (one class for every pixel) or ``detect`` their objects.
        head: of the other tasks, see :class:`scansearch.records.heads.SegmentationHead` and ``DetectionHead``.
        model: a genotype file, a run folder that holds one, a registered model such as ``localvim_tiny``, or a
            baseline from timm such as ``timm:deit_tiny_patch16_224``.
        data: a data specification; None for the data that the genotype was searched on.
        image_size: side, or (height, width), in pixels; None for that of the search, or the model's own.
        channels: of a picture: 1 (grey), 3, or 4 (with opacity); None for that of a search on the same data,
            else 3, or what the data set has.
        weights: a weight file or a training's run folder to start from, see :mod:`scansearch.training.initial`; None
            for fresh weights.
        model_options: further arguments of the model's class, for example ``{embed_dim: 64}``.
        drop_path: rate of the last layer, rising from 0 in the first; None for the genotype's own.
        augment: see :class:`scansearch.data.augment.Augment`, or a preset's name (none, light, imagenet); None for
            that of a search on the same data, else ``light`` for pictures and the data set's own way for others.
        balance: what makes rare classes count as much as frequent ones in training: ``weights`` of the loss, inversely
            proportional to the counts of the training images, or ``sampling``, which draws images with replacement
            so that classes are equally likely. Validation and test are never rebalanced.
        label_smoothing: of ``classify`` 0.1 where it is not given, of ``segment`` 0; ``detect`` has none.
        accumulate: micro-batches per step.
        max_broken: images that cannot be read are skipped, up to this many.
        track: a tracker that shows the figures of metrics.jsonl too, see :mod:`scansearch.runs.trackers`.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    task: TaskName = "classify"
    model: str
    head: TaskHead | None = None
    weights: str | None = None
    model_options: dict[str, Any] = Field(default_factory=dict)
    data: str | None = None
    image_size: ImageSize | None = None
    channels: Literal[1, 3, 4] | None = None
    epochs: int = Field(default=25, ge=1)
    batch_size: int = Field(default=32, ge=1)
    accumulate: int = Field(default=1, ge=1)
    optimizer: OptimizerOptions = OptimizerOptions()
    schedule: ScheduleOptions = ScheduleOptions()
    balance: Literal["none", "weights", "sampling"] = "none"
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    drop_path: float | None = Field(default=None, ge=0, lt=1)
    augment: AugmentChoice | None = None
    mix: MixOptions = MixOptions()
    erase: EraseOptions = EraseOptions()
    ema: EmaOptions | None = None
    channels_last: bool = False
    grad_checkpointing: bool = False
    seed: int = Field(default=0, ge=0)
    device: str = "auto"
    mixed_precision: Literal["no", "bf16"] = "no"
    workers: int = Field(default=0, ge=0, le=MOST_WORKERS)
    max_broken: int = Field(default=100, ge=0)
    track: TrackerName | None = None
    checkpoint_minutes: float = Field(default=5.0, gt=0)

    _head_of_task = field_validator("head", mode="before")(head_of_task)

    @model_validator(mode="before")
    @classmethod
    def _of_task(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("task") in HEADS:
            return {"head": {}, "label_smoothing": 0.0, **data}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        if self.task == "classify" and self.head is not None:
            raise ValueError("head goes with the other tasks only: a classifier's head is a linear layer")
        if self.task != "classify":
            self._check_dense()
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}"
            )
        if (self.mix.mixup or self.mix.cutmix) and (self.batch_size // self.accumulate) % 2:
            raise ValueError(
                f"mix needs an even number of images at once, not {self.batch_size // self.accumulate}"
            )
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"schedule.warmup_epochs {self.warmup_epochs} leaves nothing of {self.epochs} epochs"
            )
        schedule = self.schedule
        if (schedule.name == "multistep") != (schedule.milestones is not None):
            raise ValueError("schedule.milestones goes with schedule.name multistep, and only with it")
        if schedule.factor is not None and schedule.milestones is None:
            raise ValueError("schedule.factor goes with schedule.name multistep only")
        if schedule.milestones is not None:
            rising = all(early < late for early, late in pairwise(schedule.milestones))
            inside = self.warmup_epochs < schedule.milestones[0] and schedule.milestones[-1] < self.epochs
            if not (rising and inside):
                raise ValueError(
                    f"schedule.milestones {list(schedule.milestones)} must rise, after the warm-up and before "
                    f"epoch {self.epochs}"
                )
        if self.schedule.min_lr > self.optimizer.lr or self.schedule.warmup_lr > self.optimizer.lr:
            raise ValueError(
                f"schedule.min_lr and schedule.warmup_lr must not be above optimizer.lr {self.optimizer.lr}"
            )
        return self

    def _check_dense(self) -> None:
        if self.head is None:
            raise ValueError(f"task {self.task} needs a head")
        if self.mix.mixup or self.mix.cutmix:
            raise ValueError("mix is of task classify: masks and boxes are not mixed")
        if self.balance != "none":
            raise ValueError("balance is of task classify: other pictures have many classes")
        if self.task == "detect" and self.label_smoothing:
            raise ValueError("label_smoothing is not of task detect")

    @property
    def warmup_epochs(self) -> int:
        """Epochs of warm-up, with the default filled in."""
        given = self.schedule.warmup_epochs
        return self.epochs // 20 if given is None else given


def train_config(
    recipe: str | Path | None = None, settings: list[str] | None = None, **options: Any
) -> TrainConfig:
    """A validated configuration: the file ``recipe``, then ``options`` that are not None, then ``settings``.

    Args:
        recipe: a YAML file with fields of :class:`TrainConfig`.
        settings: ``a.b=value`` texts.

    Raises:
        InputError: one line naming the file or option and what is allowed.
    """
    data: dict[str, Any] = {}
    source = "options"
    if recipe is not None:
        data, source = parse_yaml(read_text(Path(recipe)), source=str(recipe)), str(recipe)
    data |= {name: value for name, value in options.items() if value is not None}
    return validate(apply_settings(expand_preset(data), settings or []), TrainConfig, source=source)
