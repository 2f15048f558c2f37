"""TrainTask: one training from scratch as a task of :func:`scansearch.engine.drive`, on timm's parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3, dispatch_clip_grad
from torch import Tensor, nn

from scansearch import engine
from scansearch.data import ImageData, Split, training_batches
from scansearch.data.balance import class_weights, known_counts
from scansearch.engine.micro_batches import MicroBatch, add_gradients, check_batch_size
from scansearch.errors import InputError
from scansearch.models.transfer import load_transfer
from scansearch.records.timm_model import TimmModel
from scansearch.seeding import Stream, seed_everything
from scansearch.tasks import find_task
from scansearch.tasks.protocol import in_float32
from scansearch.training.config import TrainConfig
from scansearch.training.initial import InitialWeights, fit_weights
from scansearch.training.loss import WeightedCrossEntropy
from scansearch.training.optimizer import group_numbers, group_tensors, make_optimizer

if TYPE_CHECKING:
    from accelerate import Accelerator

    from scansearch.models.backbone import ScanBackbone
    from scansearch.models.dense import DenseModel
    from scansearch.records.timm_model import TrainedModel


def model_arguments(config: TrainConfig, genotype: TrainedModel, data: ImageData) -> dict[str, Any]:
    """What a training adds to the genotype's own arguments of the backbone's class, or to timm's of a baseline."""
    arguments: dict[str, Any] = dict(config.model_options)
    if config.drop_path is not None:
        arguments["drop_path_rate"] = config.drop_path
    task = find_task(config.task)
    if isinstance(genotype, TimmModel):
        size: dict[str, Any] = {"num_classes": len(data.classes)}
    else:
        size = task.arguments(genotype.family, genotype.model | arguments, len(data.classes))
    size |= {"in_chans": data.channels, "img_size": data.image_size}
    clash = sorted(set(size) & set(arguments))
    if clash:
        raise InputError(f"model_options.{clash[0]}: the task, the data and image_size fix it")
    return arguments | size


def checkpoint_gradients(model: nn.Module) -> None:
    """Have the forward pass of each block computed again in the backward pass, instead of kept.

    Raises:
        InputError: a model of timm that cannot.
    """
    try:
        cast(Any, model).set_grad_checkpointing(True)
    except (AttributeError, AssertionError):
        raise InputError(f"grad_checkpointing: {type(model).__name__} of timm has none") from None


class TrainTask:
    """Trains one model; see :class:`scansearch.engine.Task` for the protocol.

    Attributes:
        kind: what is learned, see :class:`scansearch.tasks.protocol.VisionTask`.
        genotype: what is trained: a genotype, or a baseline from timm.
        backbone: with the genotype's directions; a classifier is nothing else.
        model: what learns.
        start: the weights that it starts from; None for fresh ones, and where a checkpoint replaces them.
        ema: the moving average of its weights, or None.
        best: epoch, accuracy (percent), loss and what else the task scores, of the best validation so far.
        improved: whether the last epoch was the best.
    """

    def __init__(
        self,
        config: TrainConfig,
        genotype: TrainedModel,
        data: ImageData,
        accelerator: Accelerator,
        weights: InitialWeights | None = None,
    ) -> None:
        self.config, self.genotype, self.data, self.accelerator = config, genotype, data, accelerator
        check_batch_size(
            config.batch_size,
            config.accumulate,
            processes=accelerator.num_processes,
            images=data.train.count,
            spec=data.spec,
        )
        shares = accelerator.num_processes * config.accumulate
        mixes = bool(config.mix.mixup or config.mix.cutmix)
        if mixes and (config.batch_size // shares) % 2:
            raise InputError(f"mix needs an even number of images at once, not {config.batch_size // shares}")
        self.epochs = config.epochs
        self.steps_per_epoch = data.train.count // config.batch_size
        self.kind = find_task(config.task)
        self.arguments = model_arguments(config, genotype, data)
        seed_everything(Stream.WEIGHTS, config.seed)
        self.backbone = cast("ScanBackbone", genotype.build(**self.arguments))
        decoder = self.kind.decoder(self.backbone, len(data.classes), config.head)
        self.model = cast("ScanBackbone | DenseModel", self.kind.whole(self.backbone, decoder))
        if config.head is not None and config.head.needs_pairs and config.batch_size < 2 * shares:
            raise InputError("head.norm batch needs two images or more at once on every process: use group")
        self.start = None
        if weights is not None and not isinstance(genotype, TimmModel):
            self.start = fit_weights(weights, self.backbone, genotype, self.arguments, data.classes)
            load_transfer(self.backbone, self.start.given)
        self.model.to(accelerator.device)
        self.layout = torch.channels_last if config.channels_last else torch.preserve_format
        self.model.to(memory_format=self.layout)
        if config.grad_checkpointing:
            checkpoint_gradients(self.model)
        self.optimizer = make_optimizer(self.model, config.optimizer)
        self.scheduler = self._make_scheduler()
        self.ema = None
        if config.ema is not None:
            self.ema = ModelEmaV3(self.model, decay=config.ema.decay, use_warmup=config.ema.warmup)
        self.network: nn.Module = self.model
        if accelerator.num_processes > 1:
            self.network = accelerator.prepare_model(self.model)
        self.mix = self._make_mix(len(data.classes)) if mixes else None
        self.criterion = self._make_criterion(mixes)
        erase = config.erase
        self.erase = RandomErasing(
            erase.probability, mode=erase.mode, max_count=erase.max_count, device=accelerator.device
        )
        self.best: dict[str, float] = {}
        self.improved = False
        self._train: Iterator[Any] = iter(())

    def _make_criterion(self, mixes: bool) -> nn.Module:
        config, data = self.config, self.data
        if config.balance != "none":
            counts = known_counts(data.train, len(data.classes), data.spec)
        if config.balance == "weights":
            weights = class_weights(counts)
            return WeightedCrossEntropy(weights, config.label_smoothing).to(self.accelerator.device)
        return self.kind.criterion(0.0 if mixes else config.label_smoothing, config.head)

    def _make_mix(self, classes: int) -> Mixup:
        mix = self.config.mix
        return Mixup(
            mixup_alpha=mix.mixup,
            cutmix_alpha=mix.cutmix,
            prob=mix.probability,
            switch_prob=mix.switch,
            mode=mix.mode,
            # Weights are those of the shares that were mixed, so they come before smoothing.
            label_smoothing=0.0 if self.config.balance == "weights" else self.config.label_smoothing,
            num_classes=classes,
        )

    def _make_scheduler(self) -> Any:
        schedule = self.config.schedule
        scheduler, _ = create_scheduler_v2(
            self.optimizer,
            sched="poly" if schedule.name == "linear" else schedule.name,
            num_epochs=self.epochs - self.config.warmup_epochs,
            # The power of the polynomial, or what the milestones multiply by.
            decay_rate=(schedule.factor or 0.1) if schedule.name == "multistep" else 1.0,
            decay_milestones=[epoch - self.config.warmup_epochs for epoch in schedule.milestones or ()],
            min_lr=schedule.min_lr,
            warmup_lr=schedule.warmup_lr,
            warmup_epochs=self.config.warmup_epochs,
            warmup_prefix=True,
            step_on_epochs=False,
            updates_per_epoch=self.steps_per_epoch,
        )
        return scheduler

    # --- the protocol of engine.Task ---

    def start_epoch(self, epoch: int, first_step: int) -> None:
        self._train = training_batches(
            self.data.train,
            self.config.batch_size,
            seed=self.config.seed,
            epoch=epoch,
            start=first_step,
            rank=self.accelerator.process_index,
            ranks=self.accelerator.num_processes,
            workers=self.config.workers,
            balanced=self.config.balance == "sampling",
        )

    def step(self, epoch: int, step: int) -> engine.Metrics:
        config = self.config
        self.set_learning_rate(epoch, step)
        batch = next(self._train)
        # Reading a batch may have reseeded.
        seed_everything(Stream.STEP, config.seed, self.accelerator.process_index, step)
        self.model.train()
        metrics = add_gradients(
            batch, config.accumulate, self._backward, network=self.network, accelerator=self.accelerator
        )
        if config.optimizer.clip is not None:
            dispatch_clip_grad(
                self.model.parameters(), config.optimizer.clip, mode=config.optimizer.clip_mode
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update(self.model, step=step + 1)
        return metrics

    def set_learning_rate(self, epoch: int, step: int) -> None:
        """Give every parameter group the learning rate of step number ``step`` (from 0 over the whole run)."""
        held = self.config.schedule.warmup_by == "epoch" and epoch < self.config.warmup_epochs
        self.scheduler.step_update((epoch + 1) * self.steps_per_epoch if held else step)

    def _backward(self, part: MicroBatch) -> Tensor:
        """Add the gradient of one micro-batch's share of the loss; returns its loss and accuracy.

        Of mixed images, a prediction of the label that weighs most counts as right.
        """
        x, labels = part.images, part.labels
        targets: Any = labels
        if self.config.erase.probability:
            x = self.erase(x)
        if self.mix is not None:
            x, targets = self.mix(x, labels)
            labels = targets.argmax(1)
        with self.accelerator.autocast():
            x = x.contiguous(memory_format=self.layout) if self.config.channels_last else x
            outputs = self.kind.forward(self.network, x, targets)
        loss = self.criterion(in_float32(outputs), targets)
        (loss * part.share).backward()
        return torch.stack([loss.detach(), self.kind.accuracy(outputs, labels)])

    def end_epoch(self, epoch: int) -> dict[str, Any]:
        validation = self.score(self.data.validation)
        name = self.kind.score_name
        score = (validation[name], -validation["loss"])
        self.improved = not self.best or score > (self.best[name], -self.best["loss"])
        if self.improved:
            self.best = {"epoch": epoch, **validation}
        return {
            **{f"validation_{figure}": value for figure, value in validation.items()},
            "learning_rate": max(group["lr"] for group in self.optimizer.param_groups),
            "best": self.improved,
        }

    def tensors(self) -> dict[str, Tensor]:
        ema = engine.pack_module(self.ema.module, "ema") if self.ema is not None else {}
        return {
            **engine.pack_module(self.model, "model"),
            **engine.pack_optimizer(self.optimizer, "optimizer"),
            **group_tensors(self.optimizer),
            **ema,
        }

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "groups": group_numbers(self.optimizer)}

    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        engine.unpack_module(self.model, tensors, "model")
        engine.unpack_optimizer(self.optimizer, tensors, "optimizer")
        for index, (group, numbers) in enumerate(
            zip(self.optimizer.param_groups, state["groups"], strict=True)
        ):
            start = f"group.{index}."
            group.update(numbers)
            group.update(
                {k.removeprefix(start): v.clone() for k, v in tensors.items() if k.startswith(start)}
            )
        if self.ema is not None:
            engine.unpack_module(self.ema.module, tensors, "ema")
        self.best = state["best"]

    # --- scoring ---

    @property
    def scored_model(self) -> nn.Module:
        """What is validated and kept: the moving average where there is one."""
        return self.ema.module if self.ema is not None else self.model

    def score(self, split: Split) -> engine.Metrics:
        """Loss, accuracy and what else the task scores, of :attr:`scored_model` on ``split``."""
        model = self.scored_model.eval()
        return self.kind.score(
            model,
            split,
            len(self.data.classes),
            batch_size=2 * self.config.batch_size // self.accelerator.num_processes,
            accelerator=self.accelerator,
            workers=self.config.workers,
        )
