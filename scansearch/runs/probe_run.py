"""A probe's folder: brief trainings of a few genotypes, each kept at once, and what they were asked for.

settings.json    what was asked, and of which images; the same call goes on, another one is refused
trainings.json   the finished trainings
probe.json       the result, and in words probe.md; see :mod:`scansearch.analysis.probe`
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from scansearch.costing.duration import step_seconds
from scansearch.costing.flops import full_flops
from scansearch.costing.memory import check_memory, forecast
from scansearch.data.augment import AugmentChoice
from scansearch.data.specifications import absolute
from scansearch.data.treatment import ImageSize
from scansearch.errors import InputError
from scansearch.files.atomic import write_text
from scansearch.files.lock import held
from scansearch.files.outputs import check_folder, make_folder
from scansearch.files.strict import StrictModel, load_json
from scansearch.files.temporary import remove_abandoned
from scansearch.records.equal_scans import describe_merged
from scansearch.records.genotype import Genotype
from scansearch.records.space import SearchSpace
from scansearch.runs.environment import environment
from scansearch.runs.fingerprint import FREE, Fingerprint, compare_fingerprints, take_fingerprint
from scansearch.runs.finished import FinishedTrainings
from scansearch.runs.signals import interruptible
from scansearch.searching.assembly import assemble_search
from scansearch.searching.config import SearchConfig, search_config
from scansearch.text import duration
from scansearch.training.brief import BriefRecipe, brief_score

if TYPE_CHECKING:
    from scansearch.data import ImageData, Split
    from scansearch.directions import Layers

SETTINGS, TRAININGS = "settings.json", "trainings.json"
# Without --steps as many as a search with these epochs has, but no more: on small images, where a probe is cheap,
# longer trainings hardly change the order of genotypes, and on large ones nobody would wait for them.
MOST_STEPS = 600
_SEEDS = 10_000_000  # times the probe's seed + 1: room for a seed of its own for every training
_FIGURES = ("loss", "accuracy", "seconds")

Observer = Callable[[str], None]


class ProbeConfig(StrictModel):
    """What a probe does. The trainings are those of :class:`scansearch.training.brief.BriefRecipe`.

    ``genotypes`` are drawn at random, each is trained ``trainings`` times; ``epochs`` are those of the search that it
    is about. ``steps`` None is as many as that search has, at most 600. The others are as in
    :class:`scansearch.searching.config.SearchConfig`.
    """

    space: str = "vim8"
    variant: str | None = None
    data: str
    image_size: ImageSize | None = None
    channels: Literal[1, 3, 4] | None = None
    augment: AugmentChoice | None = None
    k: int = Field(default=4, ge=1)
    genotypes: int = Field(default=8, ge=3, le=1000)
    trainings: int = Field(default=2, ge=2, le=1000)
    steps: int | None = Field(default=None, ge=1)
    epochs: int = Field(default=15, ge=1)
    batch_size: int = Field(default=32, ge=1)
    lr: float = Field(default=5e-3, gt=0, allow_inf_nan=False)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    weight_decay: float = Field(default=0.05, ge=0, allow_inf_nan=False)
    clip_norm: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    seed: int = Field(default=0, ge=0)
    device: str = "auto"
    max_broken: int = Field(default=100, ge=0)


@dataclass(frozen=True)
class Trained:
    """One genotype and its trainings.

    Attributes:
        drawn: False for the baseline, all raster, which is no part of the estimates.
        losses, accuracies: on the validation images, nats and percent, one per training.
        seconds: that each training took, its score included.
    """

    layers: Layers
    drawn: bool
    losses: tuple[float, ...]
    accuracies: tuple[float, ...]
    seconds: tuple[float, ...]


class ProbeJob:
    """The data, the space with one candidate for each scan, the trainings, and the folder that keeps them.

    Attributes:
        config: what was asked, with the steps and the variant that follow from data and space, and the space's name.
        folder: ``out``, or one below ``runs/`` whose name follows from what was asked.
    """

    def __init__(
        self, config: ProbeConfig, space: SearchSpace, images: ImageData | None, out: str | Path | None
    ) -> None:
        """Nothing is written.

        Raises:
            InputError: a configuration that does not fit space, data or machine; several processes.
        """
        self._task = assemble_search(_searched(config), space, images, merge=True)
        self.data, self.space = self._task.data, self._task.space
        if self._task.accelerator.num_processes > 1:
            raise InputError("a probe runs in one process: start it without torchrun")
        self._search_steps = self._task.epochs * self._task.steps_per_epoch
        self.config = config.model_copy(
            update={
                "space": space.name,
                "variant": config.variant or space.default_variant,
                "data": absolute(config.data),
                "augment": self.data.augment,
                "steps": config.steps or min(MOST_STEPS, self._search_steps),
            }
        )
        self._fingerprint = take_fingerprint(
            self.config.model_dump(mode="json"),
            {"the search space": self.space.to_yaml()},
            self.data,
            environment(str(self._task.accelerator.device), config.seed),
        )
        self.folder = Path(out) if out is not None else self._default_folder()

    @property
    def candidates(self) -> Layers:
        return self.space.layer_candidates(self.config.variant)

    @property
    def steps(self) -> int:
        assert self.config.steps is not None
        return self.config.steps

    @property
    def merged(self) -> list[str]:
        """The candidates that are one scan, in words."""
        return describe_merged(self.space.merged, self.space.grids(self.config.variant, self.data.image_size))

    @cached_property
    def chance(self) -> float:
        """Percent of the validation images that belong to the most frequent class."""
        labels = _labels(self.data.validation)
        return 100 * max(Counter(labels).values()) / len(labels)

    @property
    def search_trainings(self) -> float:
        """FLOPs of the search's supernet, with every candidate in every step, in units of one training here."""
        costs = self._task.costs
        assert costs is not None
        gates = [[min(1.0, self.config.k / len(names))] * len(names) for names in costs.candidates]
        whole = full_flops(self._task.supernet.backbone, *self.data.image_size) * self._search_steps
        return whole / (costs.expected(gates)["flops"] * self.steps)

    def least_seconds(self, layers: Layers) -> float:
        """Forecast of all trainings, by a few passes of the genotype ``layers``.

        Raises:
            InputError: a step does not fit in memory.
        """
        config, device = self.config, self._task.accelerator.device
        image = (self.data.channels, *self.data.image_size)
        size: dict[str, Any] = {"in_chans": image[0], "img_size": self.data.image_size}
        model = self._genotype(layers).build(num_classes=len(self.data.classes), **size).to(device)
        check_memory(forecast(model, image, config.batch_size, device=device), config.batch_size)
        seconds = step_seconds(model, image, config.batch_size, device=device)
        return seconds * self.steps * config.trainings * (config.genotypes + 1)

    @contextmanager
    def opened(self, observe: Observer, again: str) -> Iterator[None]:
        """The folder made, locked and known to be of this probe; SIGINT and SIGTERM end the block with ``again``.

        Raises:
            InputError: it holds something else or is in use. Interrupted: says how to go on.
        """
        check_folder(self.folder)
        if not _is_free(self.folder) and not holds_probe(self.folder):
            raise InputError(f"output folder {str(self.folder)!r} is not empty; choose another --out")
        make_folder(self.folder)
        busy = f"probe {str(self.folder)!r} is in use by another process"
        with held(self.folder / ".lock", busy), interruptible(self.folder, "probe", again):
            remove_abandoned(self.folder)
            if holds_probe(self.folder):
                before = load_json(self.folder / SETTINGS, Fingerprint)
                for warning in self._compare(before):
                    observe(warning)
            else:
                self.keep(SETTINGS, self._fingerprint.to_json())
            yield

    def keep(self, name: str, text: str) -> None:
        """Write a file of the folder."""
        write_text(self.folder / name, text)

    def train(self, drawn: Sequence[Layers], baseline: Layers, observe: Observer) -> list[Trained]:
        """Train ``drawn`` and the ``baseline``, or find what is already trained; ``observe`` gets a line for each.

        Raises:
            InputError: the file of the trainings is damaged. RunStopped: a loss is not finite.
        """
        finished = FinishedTrainings(self.folder / TRAININGS)
        genotypes, trained = [*drawn, baseline], []
        total = len(genotypes) * self.config.trainings
        for number, layers in enumerate(genotypes):
            rows = []
            for training in range(self.config.trainings):
                rows.append(self._train(finished, number, training, layers))
                done = number * self.config.trainings + training + 1
                observe(_line(done, total, rows[-1], layers, raster=number == len(drawn)))
            losses, accuracies, seconds = (tuple(row[name] for row in rows) for name in _FIGURES)
            trained.append(Trained(layers, number < len(drawn), losses, accuracies, seconds))
        return trained

    def _train(
        self, finished: FinishedTrainings, number: int, training: int, layers: Layers
    ) -> dict[str, Any]:
        config = self.config
        # A seed of its own for each, so that no two share what is luck, as the model of the variances has it.
        seed = _SEEDS * (config.seed + 1) + 1000 * number + training
        key = {"layers": layers, "seed": seed}
        row = finished.find(key)
        if row is not None:
            if not all(isinstance(row.get(name), int | float) for name in _FIGURES):
                raise InputError(f"{finished.path}: damaged; remove it to train its genotypes again")
            return row
        recipe = BriefRecipe(
            steps=self.steps,
            batch_size=config.batch_size,
            lr=config.lr,
            warmup=config.warmup,
            weight_decay=config.weight_decay,
            clip_norm=config.clip_norm,
        )
        start = time.perf_counter()
        score = brief_score(
            self._genotype(layers), self.data, recipe, seed=seed, accelerator=self._task.accelerator
        )
        return finished.add(key, {**score, "seconds": time.perf_counter() - start})

    def _genotype(self, layers: Layers) -> Genotype:
        return Genotype.of_space(self.space, layers, variant=self.config.variant)

    def _compare(self, before: Fingerprint) -> list[str]:
        now = self._fingerprint
        names = [
            name for name in now.config if name not in FREE and before.config.get(name) != now.config[name]
        ]
        if names:
            name = names[0]
            raise InputError(
                f"folder {str(self.folder)!r} holds a probe with other settings ({name} is "
                f"{before.config.get(name)!r} there and {now.config[name]!r} here); choose another --out"
            )
        return compare_fingerprints(self.folder, before, now)

    def _default_folder(self) -> Path:
        kept = self._fingerprint
        config = {name: value for name, value in kept.config.items() if name not in FREE}
        asked = json.dumps([config, kept.records, kept.classes, kept.counts, kept.images], sort_keys=True)
        digest = hashlib.sha256(asked.encode()).hexdigest()[:8]
        return Path("runs") / f"probe-{self.space.name}-{digest}"


def raster(candidates: Layers, k: int) -> Layers:
    """The genotype without any search: row and column scans and their reverses, where a layer has them.

    Of ``h``, ``h_flip``, ``v``, ``v_flip`` the first ``k`` that the layer has, filled up with its first other
    candidates. With k = 4 it is the cross-scan of VMamba (arXiv 2401.10166), with k = 2 the two ways of Vim (arXiv
    2401.09417).
    """
    layers = []
    for names in candidates:
        plain = [name for name in ("h", "h_flip", "v", "v_flip") if name in names]
        chosen = [*plain, *(name for name in names if name not in plain)][:k]
        layers.append(tuple(name for name in names if name in chosen))
    return tuple(layers)


def holds_probe(folder: Path) -> bool:
    """Whether ``folder`` is that of a probe."""
    return (folder / SETTINGS).is_file() and not (folder / "config.yaml").exists()


def forecast_line(job: ProbeJob, layers: Layers) -> str:
    """How long the trainings of ``job`` take, told before the first one."""
    return f"all trainings together take at least about {duration(job.least_seconds(layers))}"


def _searched(config: ProbeConfig) -> SearchConfig:
    """The search that a probe is about; its data, space and costs are the probe's."""
    shared = ("space", "variant", "data", "image_size", "channels", "augment", "k", "epochs", "batch_size")
    return search_config(
        **{name: getattr(config, name) for name in (*shared, "seed", "device", "max_broken")}
    )


def _is_free(folder: Path) -> bool:
    return not folder.exists() or all(path.name.startswith(".") for path in folder.iterdir())


def _labels(split: Split) -> list[int]:
    return list(split.labels) or [split.read(index)[1] for index in range(split.count)]


def _line(done: int, total: int, row: dict[str, Any], layers: Layers, *, raster: bool) -> str:
    names = " / ".join(" ".join(layer) for layer in layers)
    return (
        f"{done}/{total}  loss {row['loss']:.4f}  accuracy {row['accuracy']:.2f} %  "
        f"{duration(row['seconds'])}  {'all raster: ' if raster else ''}{names}"
    )
