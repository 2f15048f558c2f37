"""Verification: the best-ranked genotypes of a search, and one drawn at random, trained from scratch and compared.

A search ranks genotypes by what a supernet says of their directions one by one. Training a few of the best for a
short time from scratch, and judging them on the validation images, chooses among them by what counts; the one drawn
at random says whether the search was worth it. The two best are trained once more from another seed, as one short
training says little about near ones, and their mean losses decide. Test images are not touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import TYPE_CHECKING, Any

from scansearch.records.genotype import Genotype
from scansearch.runs.finished import FinishedTrainings
from scansearch.seeding import Stream, generate
from scansearch.training.brief import BriefRecipe, brief_score

if TYPE_CHECKING:
    from accelerate import Accelerator

    from scansearch.data import ImageData
    from scansearch.directions import Layers
    from scansearch.records.space import SearchSpace

FILE = "verification.json"
FINALISTS = 2  # are trained twice


@dataclass(frozen=True)
class Verified:
    """One genotype that was trained.

    Attributes:
        rank: in the search's own order, from 1; None for the one drawn at random.
        losses, accuracies: on the validation images after each of its trainings, nats and percent.
        number, of: which training the last one was, from 1, of how many.
    """

    genotype: Genotype
    rank: int | None
    losses: tuple[float, ...]
    accuracies: tuple[float, ...]
    number: int
    of: int

    @property
    def loss(self) -> float:
        """The mean over its trainings."""
        return mean(self.losses)

    @property
    def accuracy(self) -> float:
        """The mean over its trainings."""
        return mean(self.accuracies)

    @property
    def source(self) -> str:
        """``rank 2``, or ``random``."""
        return "random" if self.rank is None else f"rank {self.rank}"

    def describe(self) -> str:
        """One line of its last training."""
        layers = " / ".join(" ".join(names) for names in self.genotype.layers)
        again = " again" if len(self.losses) > 1 else ""
        return (
            f"verification {self.number}/{self.of}: {self.source}{again}, validation loss {self.losses[-1]:.4f}, "
            f"accuracy {self.accuracies[-1]:.2f} %, {layers}"
        )


def verify(
    ranked: Sequence[Genotype],
    control: Genotype | None,
    data: ImageData,
    recipe: BriefRecipe,
    *,
    seed: int,
    accelerator: Accelerator,
    finished: FinishedTrainings,
    observe: Callable[[Verified], None] = lambda verified: None,
) -> list[Verified]:
    """Train ``ranked`` genotypes and the ``control`` from fresh weights; each training is kept in ``finished`` at once.

    All start from the same ``seed``; where more than one is ranked, the best `FINALISTS` are trained again from the
    next. Every process does all trainings; the main one writes.

    Raises:
        InputError: ``finished`` is damaged. RunStopped: a loss is not finite.
    """
    entries: list[tuple[int | None, Genotype]] = list(enumerate(ranked, 1))
    if control is not None:
        entries.append((None, control))
    total = trainings(len(ranked), control is not None)
    verified: list[Verified] = []

    def train(one: Verified, seed: int) -> Verified:
        key: dict[str, Any] = {"layers": one.genotype.layers, "steps": recipe.steps, "seed": seed}
        if (row := finished.find(key)) is None:
            score = brief_score(one.genotype, data, recipe, seed=seed, accelerator=accelerator)
            row = finished.add(key, score, write=accelerator.is_main_process)
        losses, accuracies = (*one.losses, row["loss"]), (*one.accuracies, row["accuracy"])
        trained = replace(one, losses=losses, accuracies=accuracies, number=one.number + 1)
        observe(trained)
        return trained

    for number, (rank, genotype) in enumerate(entries):
        verified.append(train(Verified(genotype, rank, (), (), number, total), seed))
    finalists = sorted(verified, key=_order)[: total - len(entries)]
    for number, one in enumerate(finalists, len(entries)):
        verified[verified.index(one)] = train(replace(one, number=number), seed + 1)
    return verified


def trainings(ranked: int, control: bool = True) -> int:
    """How many trainings it takes to verify so many ``ranked`` genotypes, with or without a random one."""
    return ranked + control + (FINALISTS if ranked > 1 else 0)


def random_genotype(
    space: SearchSpace, variant: str, k: int, seed: int, besides: Sequence[Genotype]
) -> Genotype | None:
    """A genotype drawn uniformly, none of ``besides``; None where there is no other."""
    generator = generate(Stream.GENOTYPES, seed, 1)
    taken = {one.layers for one in besides}
    for layers in _draws(space, variant, k, generator):
        if layers not in taken:
            return Genotype.of_space(space, layers, variant=variant)
    return None


def _draws(space: SearchSpace, variant: str, k: int, generator: Any) -> Iterator[Layers]:
    candidates = space.layer_candidates(variant)
    for _ in range(1000):
        chosen = (set(generator.permutation(names)[:k].tolist()) for names in candidates)
        yield tuple(
            tuple(name for name in names if name in layer)
            for names, layer in zip(candidates, chosen, strict=True)
        )


def verified_best(verified: Sequence[Verified]) -> Verified:
    """The one of the lowest mean loss among those trained most often; ties go to the better rank, a random one last."""
    most = max(len(one.losses) for one in verified)
    return min((one for one in verified if len(one.losses) == most), key=_order)


def _order(one: Verified) -> tuple[float, bool, int]:
    return one.loss, one.rank is None, one.rank or 0


def spread(verified: Sequence[Verified]) -> float | None:
    """The largest difference between two trainings of one genotype, nats; None where none was trained twice."""
    return max((max(one.losses) - min(one.losses) for one in verified if len(one.losses) > 1), default=None)
