"""SearchConfig: everything that a search depends on, as one strict value and one YAML file."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from scansearch.data.augment import AugmentChoice
from scansearch.data.specifications import MOST_WORKERS
from scansearch.data.treatment import ImageSize
from scansearch.files.strict import StrictModel, validate
from scansearch.records.heads import HEADS, TaskHead, TaskName, head_of_task
from scansearch.records.trackers import TrackerName
from scansearch.searching.strategies import RELAXATIONS, SELECTIONS, STRATEGIES, UPDATES, Strategy
from scansearch.text import choices


class WeightOptions(StrictModel):
    """The supernet's weights: AdamW, linear warm-up by step, cosine to zero."""

    lr: float = Field(default=5e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    decay: Literal["mamba", "released"] = "mamba"
    warmup_epochs: float = Field(default=1.0, ge=0)
    clip_norm: float | None = Field(default=1.0, gt=0)
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)


class AlphaOptions(StrictModel):
    """The architecture parameters (alphas): Adam with a learning rate of their own."""

    lr: float = Field(default=2e-2, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    warmup_epochs: int = Field(default=1, ge=0, description="epochs in which the alphas are frozen")
    entropy_weight: float = Field(
        default=0.0, description="times the mean entropy of the gates; > 0 sharpens"
    )
    cost_weight: float = Field(default=0.0, ge=0, description="times the expected share of the full cost")


class Temperature(StrictModel):
    """Temperature of the relaxation over the epochs."""

    start: float = Field(default=1.0, gt=0)
    end: float = Field(default=1.0, gt=0)
    schedule: Literal["linear", "exponential"] = "linear"

    def at(self, progress: float) -> float:
        """The temperature at ``progress`` in [0, 1]."""
        if self.schedule == "linear":
            return self.start + (self.end - self.start) * progress
        return self.start * (self.end / self.start) ** progress


class EvolutionOptions(StrictModel):
    """Selection ``evolution``: how many sub-networks are scored, and what proposes them, see ``evolution.evolve``.

    ``population`` is of ``nsga2`` only. Configurations from when there was nothing else name a population and no
    proposals; they keep their meaning.
    """

    evaluations: int = Field(default=100, ge=1)
    proposals: Literal["model", "nsga2"] = "model"
    population: int | None = Field(default=None, ge=2)

    @model_validator(mode="before")
    @classmethod
    def _of_before(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("population") is not None:
            return {"proposals": "nsga2", **data}
        return data

    @model_validator(mode="after")
    def _population_of_nsga2(self) -> EvolutionOptions:
        if self.population is not None and self.proposals != "nsga2":
            raise ValueError(f"a population goes with proposals 'nsga2' only, not {self.proposals!r}")
        return self


class SearchConfig(StrictModel):
    """What one search does. ``strategy`` names a triple; the three axes may be set one by one.

    ``task`` is ``classify``, or ``segment`` or ``detect`` with a ``head`` (:mod:`scansearch.records.heads`), which
    costs every genotype the same; ``weights.label_smoothing`` is then 0 where it is not given.

    ``k`` is the number of directions per layer, both of the derived genotype and of the gates that are
    active at once in the sampled relaxations. ``image_size`` is a side or (height, width). ``augment`` is an Augment
    or a preset's name (none, light, imagenet); None is ``light``, or the data set's own way. ``channels`` of a picture:
    1 (grey), 3, or 4 (with opacity); None is 3, or what the data set has. Pictures that cannot be read are skipped, up
    to ``max_broken``. ``verify`` is how many of the best-ranked genotypes are trained briefly after the search, and one
    drawn at random beside them; 0 trains none. ``verify_steps`` is how long; None is two thirds of the search's steps.
    ``track`` names a tracker that shows the figures of metrics.jsonl too.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    task: TaskName = "classify"
    head: TaskHead | None = None
    space: str
    variant: str | None = None
    data: str = "digits"
    image_size: ImageSize | None = None
    channels: Literal[1, 3, 4] | None = None
    k: int = Field(default=4, ge=1)
    strategy: str = "localmamba"
    relaxation: str = "softmax"
    update: str = "joint"
    selection: str = "magnitude"
    epochs: int = Field(default=15, ge=1)
    batch_size: int = Field(default=32, ge=1)
    accumulate: int = Field(default=1, ge=1, description="micro-batches per step")
    weights: WeightOptions = WeightOptions()
    alphas: AlphaOptions = AlphaOptions()
    temperature: Temperature = Temperature()
    evolution: EvolutionOptions = EvolutionOptions()
    verify: int = Field(default=0, ge=0)
    verify_steps: int | None = Field(default=None, ge=1)
    early_stop_epochs: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)
    device: str = "auto"
    mixed_precision: Literal["no", "bf16"] = "no"
    workers: int = Field(default=0, ge=0, le=MOST_WORKERS)
    augment: AugmentChoice | None = None
    max_broken: int = Field(default=100, ge=0)
    track: TrackerName | None = None
    checkpoint_minutes: float = Field(default=5.0, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _fill_from_strategy(cls, data: Any) -> Any:
        if isinstance(data, dict):
            name = data.get("strategy", "localmamba")
            named = STRATEGIES.get(name) if isinstance(name, str) else None
            if isinstance(named, Strategy):
                return {**named.axes(), **data}
        return data

    _head_of_task = field_validator("head", mode="before")(head_of_task)

    @model_validator(mode="before")
    @classmethod
    def _of_task(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("task") in HEADS:
            weights = data.get("weights", {})
            plain = {"label_smoothing": 0.0, **weights} if isinstance(weights, dict) else weights
            return {"head": {}, **data, "weights": plain}
        return data

    @model_validator(mode="after")
    def _fits_the_task(self) -> SearchConfig:
        if (self.head is None) != (self.task == "classify"):
            raise ValueError("head goes with the tasks segment and detect, and only with them")
        if self.task == "detect" and self.weights.label_smoothing:
            raise ValueError("weights.label_smoothing is not of task detect")
        if self.verify and self.task != "classify":
            raise ValueError(f"verify trains classifiers briefly: it does not go with task {self.task}")
        return self

    @model_validator(mode="after")
    def _known_names(self) -> SearchConfig:
        for field, known in (
            ("strategy", STRATEGIES),
            ("relaxation", RELAXATIONS),
            ("update", UPDATES),
            ("selection", SELECTIONS),
        ):
            value = getattr(self, field)
            if value not in known:
                raise ValueError(f"unknown {field} {value!r} {choices(value, known)}")
        if self.update == "fair" and self.relaxation != "uniform":
            raise ValueError(
                "update 'fair' deals the candidates out itself: it goes with relaxation 'uniform' only"
            )
        if self.relaxation == "uniform" and self.selection in ("magnitude", "narrowing"):
            raise ValueError(
                f"relaxation 'uniform' learns no alphas, so selection {self.selection!r} has nothing to read: "
                "use 'perturbation' or 'evolution'"
            )
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}"
            )
        return self


def search_config(**options: Any) -> SearchConfig:
    """A validated configuration.

    Raises:
        InputError: one line naming the option and what is allowed.
    """
    return validate(
        {name: value for name, value in options.items() if value is not None}, SearchConfig, source="options"
    )
