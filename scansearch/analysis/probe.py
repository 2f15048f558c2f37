"""Whether a search is worth it on some data: do genotypes differ by more than seeds do?

A few genotypes of the space, drawn uniformly, are trained briefly from scratch, each with several seeds, and judged on
the validation images. :mod:`scansearch.analysis.variance` tells what of the variance is due to the genotypes. Test
images are not touched.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scansearch.analysis.fidelity import sample_genotypes
from scansearch.analysis.variance import Noise, balanced_noise
from scansearch.files.strict import validate
from scansearch.records.lookup import expect_kind
from scansearch.records.space import SearchSpace, load_space
from scansearch.runs.probe_run import Observer, ProbeConfig, ProbeJob, Trained, forecast_line, raster
from scansearch.text import duration

if TYPE_CHECKING:
    from scansearch.data import ImageData

# A training has learned where its accuracy is so many standard errors above the most frequent class's share: of some
# twenty trainings that learned nothing the best is above two by chance, and hardly ever above this.
LEARNED_ERRORS = 3.0
# From here on directions matter more than the luck of a seed, so that a genotype chosen once is likely a better one.
WORTH_IT = 0.5
# Nats of the best of 32. A hundredth of a nat changes the probability of the right class by one percent of itself.
SMALLEST_GAIN = 0.01
COUNTS = (8, 32)  # random genotypes of which the best is taken, for the expected gain


@dataclass(frozen=True)
class Probe:
    """What :func:`probe` gives.

    Attributes:
        trained: the genotypes drawn, and last the baseline, all raster, which is no part of the estimates.
        chance: percent of the validation images that belong to the most frequent class.
        images: number of validation images.
        search_trainings: what a search of the space costs, in trainings like these, by FLOPs.
        space, data, k, steps: what was trained.
        folder: where it is kept.
    """

    space: str
    data: str
    k: int
    steps: int
    trained: tuple[Trained, ...]
    chance: float
    images: int
    search_trainings: float
    folder: Path

    @property
    def drawn(self) -> list[Trained]:
        """The genotypes that were drawn at random."""
        return [one for one in self.trained if one.drawn]

    @cached_property
    def loss(self) -> Noise:
        """Variance components of the validation loss (nats) over the genotypes drawn."""
        return balanced_noise([one.losses for one in self.drawn])

    @cached_property
    def accuracy(self) -> Noise:
        """The same of the accuracy (percent); its gain is that of choosing by accuracy."""
        return balanced_noise([one.accuracies for one in self.drawn])

    @property
    def learned(self) -> bool:
        """Whether any training is better than always saying the most frequent class, by more than chance."""
        share = self.chance / 100
        error = 100 * math.sqrt(share * (1 - share) / self.images)
        return max(max(one.accuracies) for one in self.trained) > self.chance + LEARNED_ERRORS * error

    @property
    def measurable(self) -> bool:
        """Whether the 90 % interval of the ICC excludes 0: the F test at 5 %."""
        return self.loss.icc_interval[0] > 0

    @property
    def seconds(self) -> float:
        """Of all trainings."""
        return math.fsum(second for one in self.trained for second in one.seconds)

    @property
    def search_seconds(self) -> float:
        """What a search would take, at the mean speed of these trainings."""
        return self.search_trainings * statistics.fmean(s for one in self.trained for s in one.seconds)

    @property
    def verdict(self) -> str:
        """One sentence."""
        high = self.loss.icc_interval[1]
        if not self.learned:
            return (
                f"nothing can be told: after {self.steps} steps no training was better than always saying the most "
                f"frequent class ({self.chance:.1f} %); more --steps are needed"
            )
        if not self.measurable:
            more = (
                f", but up to {_percent(high)} of the differences may still be due to it: more --genotypes or "
                "--trainings would tell"
                if high >= WORTH_IT
                else ": a search is not worth it"
            )
            return f"on this data the choice of directions makes no measurable difference{more}"
        share = f"on this data the choice of directions explains about {_percent(self.loss.icc)} of the differences"
        if self.loss.gain(COUNTS[-1]) < SMALLEST_GAIN:
            return f"{share}, but these are so small that a search is not worth it"
        if self.loss.icc < WORTH_IT:
            return f"{share}, less than the seeds do: a search is worth it only if its choice is trained several times"
        return f"{share}: a search is worth it"

    def lines(self) -> list[str]:
        """The result in words; the last line is the :attr:`verdict`."""
        loss, (low, high) = self.loss, self.loss.icc_interval
        told = "so it can be told from none" if self.measurable else "so it cannot be told from none"
        lines = [
            f"directions: {_percent(loss.icc)} of the variance of the validation loss (ICC {loss.icc:.2f}, 90 % "
            f"interval {low:.2f} to {high:.2f}), {told}; deviation between genotypes {loss.between:.4f} nats, between "
            f"seeds {loss.seeds:.4f}"
        ]
        for count in COUNTS if self.learned else ():
            gain, points = loss.gain(count), self.accuracy.gain(count)
            lines.append(
                f"the best of {count} random genotypes, each trained once, gains about {gain:.4f} nats over a random "
                f"one ({_times(gain, loss.seeds)} the deviation between seeds), or {points:.2f} points of accuracy"
            )
        trainings = sum(len(one.losses) for one in self.trained)
        lines += [
            f"cost: {duration(self.seconds)} for {trainings} trainings of {self.steps} steps; a search of this space "
            f"costs as much as {self.search_trainings:.1f} of them by FLOPs, so about {duration(self.search_seconds)}",
            f"verdict: {self.verdict}",
        ]
        return lines

    def rows(self) -> list[tuple[str, ...]]:
        """Cells of a table under :data:`HEADINGS`: the genotypes, best mean loss first."""
        return [
            (
                " / ".join(" ".join(names) for names in one.layers) + ("" if one.drawn else " (all raster)"),
                f"{statistics.fmean(one.losses):.4f}",
                f"{statistics.stdev(one.losses):.4f}",
                f"{statistics.fmean(one.accuracies):.2f} %",
            )
            for one in sorted(self.trained, key=lambda one: statistics.fmean(one.losses))
        ]

    def record(self) -> dict[str, Any]:
        """The figures as plain values, as in ``probe.json``."""
        return {
            "schema": 1,
            "kind": "probe",
            **{name: getattr(self, name) for name in ("space", "data", "k", "steps")},
            "verdict": self.verdict,
            "learned": self.learned,
            "measurable": self.measurable,
            "loss": asdict(self.loss),
            "accuracy": asdict(self.accuracy),
            "gain": [
                {"best_of": count, "nats": self.loss.gain(count), "points": self.accuracy.gain(count)}
                for count in COUNTS
            ],
            "chance": self.chance,
            "images": self.images,
            "seconds": self.seconds,
            "search_trainings": self.search_trainings,
            "search_seconds": self.search_seconds,
            "trained": [asdict(one) for one in self.trained],
        }

    def to_json(self) -> str:
        """:meth:`record` as the text of a file."""
        return json.dumps(self.record(), indent=1) + "\n"

    def markdown(self) -> str:
        """The words and the table, as in ``probe.md``."""
        table = [HEADINGS, ("---", "---:", "---:", "---:"), *self.rows()]
        return "\n".join(
            [
                f"# Probe of {self.space} (k = {self.k})",
                "",
                *(f"* {line}" for line in self.lines()),
                "",
                *(f"| {' | '.join(cells)} |" for cells in table),
                "",
            ]
        )


HEADINGS = ("directions, layer / layer", "mean loss", "over seeds", "accuracy")


def probe(
    data: str | ImageData,
    *,
    space: SearchSpace | str = "vim8",
    out: str | Path | None = None,
    observe: Observer = lambda line: None,
    again: str = "the same call",
    **options: Any,
) -> Probe:
    """Train a few random genotypes of ``space`` on ``data`` briefly, several times each: do directions matter there?

    The variance of the validation loss (nats) is divided into what genotypes and what seeds explain, by a one-way
    random-effects model (Shrout & Fleiss 1979). Every training is kept at once, so the same call goes on where it was.

    Args:
        data: a data specification, see :func:`scansearch.data.load_data`, or images that the program holds.
        space: a :class:`~scansearch.records.space.SearchSpace`, or the name or path of one.
        out: its folder; default: one below ``runs/`` whose name follows from the settings.
        observe: called with each line of progress: first what it will cost, then one for each training.
        again: what an interruption says goes on.
        options: any other field of :class:`~scansearch.runs.probe_run.ProbeConfig`: ``k``, ``genotypes``,
            ``trainings``, ``steps``, ``seed``, ...

    Raises:
        InputError: an option that is unknown or not allowed, or a folder that holds something else.
        RunStopped: a loss is not finite, or SIGINT or SIGTERM came; finished trainings are kept.
    """
    images = None if isinstance(data, str) else data
    given = {name: value for name, value in options.items() if value is not None}
    named = space.name if isinstance(space, SearchSpace) else str(space)
    spec = data if isinstance(data, str) else data.spec
    config = validate({**given, "space": named, "data": spec}, ProbeConfig, source="options")
    if not isinstance(space, SearchSpace):
        expect_kind(space, ("space",), command="probe")
        space = load_space(space)
    job = ProbeJob(config, space, images, out)
    drawn = sample_genotypes(job.candidates, config.k, config.genotypes, config.seed)
    with job.opened(observe, again):
        for line in _header(job, drawn):
            observe(line)
        trained = job.train(drawn, raster(job.candidates, config.k), observe)
        result = Probe(
            space=job.space.name,
            data=job.config.data,
            k=config.k,
            steps=job.steps,
            trained=tuple(trained),
            chance=job.chance,
            images=job.data.validation.count,
            search_trainings=job.search_trainings,
            folder=job.folder,
        )
        job.keep("probe.json", result.to_json())
        job.keep("probe.md", result.markdown())
    return result


def _header(job: ProbeJob, drawn: Sequence[Any]) -> list[str]:
    config = job.config
    return [
        f"probe of {job.space.name}, k = {config.k}, on {config.data}: {len(drawn)} random genotypes and all raster, "
        f"{config.trainings} trainings each of {job.steps} steps of {config.batch_size} images",
        *(f"space: {line}" for line in job.merged),
        f"{forecast_line(job, drawn[0])}; a search of {config.epochs} epochs costs {job.search_trainings:.1f} of them "
        "by FLOPs",
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _times(gain: float, deviation: float) -> str:
    return f"{gain / deviation:.1f} times" if deviation > 0 else "beyond"
