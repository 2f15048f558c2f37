"""SearchTask: one search as a task of :func:`scansearch.engine.drive`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from scansearch import engine
from scansearch.data import VALIDATION_STREAMS, ImageData, Split, training_batches
from scansearch.engine.micro_batches import check_batch_size
from scansearch.models.decay import weight_decay_groups
from scansearch.models.merge import LayerGates
from scansearch.records.costs import Costs
from scansearch.records.space import SearchSpace
from scansearch.searching.config import SearchConfig
from scansearch.searching.narrowing import Narrowed, Narrowing
from scansearch.searching.penalties import Penalty, mean_entropy
from scansearch.searching.relaxations import Relaxation, equal_gates
from scansearch.searching.strategies import RELAXATIONS, UPDATES
from scansearch.searching.supernet import Supernet
from scansearch.searching.updates import StepTools, Update
from scansearch.seeding import Stream, seed_everything, torch_generator
from scansearch.tasks import find_task

if TYPE_CHECKING:
    from accelerate import Accelerator


def build_supernet(config: SearchConfig, space: SearchSpace, data: ImageData) -> Supernet:
    """The supernet of a search with the weights that ``config.seed`` gives."""
    seed_everything(Stream.WEIGHTS, config.seed)
    return Supernet.of_space(
        space,
        config.variant,
        num_classes=len(data.classes),
        task=config.task,
        head=config.head,
        in_chans=data.channels,
        img_size=data.image_size,
        drop_path_rate=config.weights.drop_path,
    )


class SearchTask:
    """Trains a supernet; see :class:`scansearch.engine.Task` for the protocol.

    Attributes:
        kind: what is learned, see :class:`scansearch.tasks.protocol.VisionTask`.
        supernet: the model, with its alphas.
        chosen: top-k candidate indices of every layer by the current probabilities.
        narrowing: what fixes layers on the way, where the selection is ``narrowing``; else None.
        temperature: of the relaxation in the last step.
    """

    def __init__(
        self,
        config: SearchConfig,
        space: SearchSpace,
        data: ImageData,
        accelerator: Accelerator,
        *,
        costs: Costs | None = None,
    ) -> None:
        self.config, self.data, self.accelerator, self.costs = config, data, accelerator, costs
        self.space = space
        check_batch_size(
            config.batch_size,
            config.accumulate,
            processes=accelerator.num_processes,
            images=data.train.count,
            spec=data.spec,
        )
        self.epochs = config.epochs
        self.steps_per_epoch = data.train.count // config.batch_size
        self.update: Update = UPDATES.load(config.update)
        self.relaxation: Relaxation = RELAXATIONS.load(config.relaxation)()
        self.narrowing: Narrowing | None = None
        if config.selection == "narrowing":
            self.relaxation = narrowed = Narrowed(self.relaxation)
            self.narrowing = Narrowing(narrowed, config.k)
        self.kind = find_task(config.task)
        self.supernet = build_supernet(config, space, data).to(accelerator.device)
        groups = weight_decay_groups(
            self.supernet.backbone,
            config.weights.weight_decay,
            config.weights.decay,
            exclude=self.supernet.alphas,
        )
        if self.supernet.decoder is not None:
            for parameter in self.supernet.decoder.parameters():
                groups[0 if parameter.ndim > 1 else 1]["params"].append(parameter)
        self.weights = torch.optim.AdamW(groups, lr=config.weights.lr)
        self.alphas = torch.optim.Adam(
            self.supernet.alphas,
            lr=config.alphas.lr,
            betas=(0.5, 0.999),
            weight_decay=config.alphas.weight_decay,
        )
        self.network = self._distributed(self.supernet)
        self.criterion = self.kind.criterion(config.weights.label_smoothing, config.head)
        self.penalty = Penalty(
            self.relaxation,
            costs,
            entropy_weight=config.alphas.entropy_weight,
            cost_weight=config.alphas.cost_weight,
        )
        self.temperature = config.temperature.start
        self.chosen = self._top_k()
        self.unchanged_epochs = 0
        self._train: Iterator[Any] = iter(())
        self._validation: Iterator[Any] = iter(())

    def _distributed(self, supernet: Supernet) -> nn.Module:
        if self.accelerator.num_processes == 1:
            return supernet
        # The alphas' gradients are averaged explicitly: some updates bypass the wrapper's hooks.
        alphas = {id(alpha) for alpha in supernet.alphas}
        ignored = [name for name, p in supernet.named_parameters() if id(p) in alphas]
        nn.parallel.DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(supernet, ignored)
        return self.accelerator.prepare_model(supernet)

    # --- the protocol of engine.Task ---

    def start_epoch(self, epoch: int, first_step: int) -> None:
        config = self.config
        shared: dict[str, Any] = {
            "epoch": epoch,
            "start": first_step,
            "rank": self.accelerator.process_index,
            "ranks": self.accelerator.num_processes,
            "workers": config.workers,
        }
        self._train = iter(training_batches(self.data.train, config.batch_size, seed=config.seed, **shared))
        if self.update.needs_validation:
            self._validation = iter(
                training_batches(
                    self.data.validation,
                    config.batch_size,
                    seed=config.seed,
                    streams=VALIDATION_STREAMS,
                    batches=self.steps_per_epoch,
                    **shared,
                )
            )

    def step(self, epoch: int, step: int) -> engine.Metrics:
        config = self.config
        warmup = round(config.weights.warmup_epochs * self.steps_per_epoch)
        total = self.epochs * self.steps_per_epoch
        engine.set_learning_rate(self.weights, engine.cosine(step, total, warmup, config.weights.lr))
        train = next(self._train)
        validation = next(self._validation) if self.update.needs_validation else None
        # Reading a batch may have reseeded.
        seed_everything(Stream.STEP, config.seed, self.accelerator.process_index, step)
        self.supernet.train()
        if self.narrowing is not None:
            self.narrowing.advance(self.supernet.alphas, step / total)
        return self.update.step(self._tools(epoch, step), train, validation)

    def _tools(self, epoch: int, step: int) -> StepTools:
        config = self.config
        total = self.epochs * self.steps_per_epoch
        self.temperature = config.temperature.at(step / max(1, total - 1))
        return StepTools(
            supernet=self.supernet,
            network=self.network,
            relaxation=self.relaxation,
            weights=self.weights,
            alphas=self.alphas,
            accelerator=self.accelerator,
            criterion=self.criterion,
            penalty=self.penalty,
            # The same on every process: they must draw the same gates.
            generator=torch_generator(Stream.GATES, config.seed, step),
            temperature=self.temperature,
            active=config.k,
            accumulate=config.accumulate,
            clip_norm=config.weights.clip_norm,
            alphas_frozen=epoch < config.alphas.warmup_epochs,
            kind=self.kind,
        )

    def end_epoch(self, epoch: int) -> dict[str, Any]:
        engine.check_equal_on_all_processes(
            self.accelerator, self.supernet.alphas, "the architecture parameters"
        )
        validation = self.score_validation()
        chosen = self._top_k()
        self.unchanged_epochs = self.unchanged_epochs + 1 if chosen == self.chosen else 0
        self.chosen = chosen
        probabilities = [p.detach() for p in self.relaxation.probabilities(self.supernet.alphas)]
        patience = self.config.early_stop_epochs
        learning = epoch >= self.config.alphas.warmup_epochs
        return {
            **{f"validation_{figure}": value for figure, value in validation.items()},
            "entropy": float(mean_entropy(probabilities)),
            "temperature": self.temperature,
            "probabilities": engine.jsonable(probabilities),
            "finished": learning and patience is not None and self.unchanged_epochs >= patience,
        }

    def tensors(self) -> dict[str, Tensor]:
        return {
            **engine.pack_module(self.supernet, "supernet"),
            **engine.pack_optimizer(self.weights, "weights"),
            **engine.pack_optimizer(self.alphas, "alphas"),
        }

    def state(self) -> dict[str, Any]:
        return {
            "chosen": self.chosen,
            "unchanged_epochs": self.unchanged_epochs,
            "temperature": self.temperature,
            **({} if self.narrowing is None else {"narrowing": self.narrowing.state()}),
        }

    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        engine.unpack_module(self.supernet, tensors, "supernet")
        engine.unpack_optimizer(self.weights, tensors, "weights")
        engine.unpack_optimizer(self.alphas, tensors, "alphas")
        self.chosen = state["chosen"]
        self.unchanged_epochs = state["unchanged_epochs"]
        if self.narrowing is not None:
            self.narrowing.load(state["narrowing"])
        # Checkpoints of earlier versions do not tell it.
        self.temperature = state.get("temperature", self.config.temperature.end)

    # --- scoring ---

    def score_validation(self, gates: Sequence[LayerGates] | None = None) -> engine.Metrics:
        """Loss, accuracy and what else the task scores, of the supernet on the validation split, with ``gates``.

        By default with gates such as it is trained with, see :meth:`Relaxation.scored_gates`.
        """
        return self._score(self.data.validation, gates)

    def score_test(self) -> engine.Metrics:
        """The same on the test split; meant to be called once, at the end."""
        return self._score(self.data.test)

    def validation_loss(self, gates: Sequence[LayerGates]) -> float:
        """Mean validation loss (nats) of the supernet under ``gates``."""
        self.supernet.eval()
        return self.kind.mean_loss(
            partial(self.supernet, gates=gates),
            self.data.validation,
            len(self.data.classes),
            **self._scoring(),
        )

    def _score(self, split: Split, gates: Sequence[LayerGates] | None = None) -> engine.Metrics:
        self.supernet.eval()
        scores = [
            self.kind.score(
                partial(self.supernet, gates=given),
                split,
                len(self.data.classes),
                **self._scoring(),
            )
            for given in ([gates] if gates is not None else self._scored_gates())
        ]
        return {name: sum(score[name] for score in scores) / len(scores) for name in scores[0]}

    def _scoring(self) -> dict[str, Any]:
        return {
            "batch_size": 4 * self.config.batch_size,
            "accelerator": self.accelerator,
            "workers": self.config.workers,
        }

    @torch.no_grad()
    def _scored_gates(self) -> list[list[LayerGates]]:
        return self.relaxation.scored_gates(
            self.supernet.alphas, active=self.config.k, temperature=self.temperature
        )

    def subnetwork(self, layers: Sequence[Sequence[str]]) -> list[LayerGates]:
        """Gates of the sub-network with these directions and inherited weights, weighed as branches were in training.

        Raises:
            InputError: as :meth:`Supernet.subnetwork`.
        """
        gates = self.supernet.subnetwork(layers)
        if not self.relaxation.samples:
            return gates
        return [equal_gates(a, g.active) for a, g in zip(self.supernet.alphas, gates, strict=True)]

    def _top_k(self) -> list[list[int]]:
        with torch.no_grad():
            layers = self.relaxation.probabilities(self.supernet.alphas)
        return [sorted(torch.topk(p, min(self.config.k, len(p))).indices.tolist()) for p in layers]
