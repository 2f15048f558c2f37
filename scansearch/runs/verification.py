"""Verification: the best-ranked genotypes of a search, and one drawn at random, trained from scratch and compared.

A search ranks genotypes by what a supernet says of their directions one by one. Training a few of the best for a
short time from scratch, and judging them on the validation images, chooses among them by what counts; the one drawn
at random says whether the search was worth it. Test images are not touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Verified:
    """One genotype that was trained.

    Attributes:
        rank: in the search's own order, from 1; None for the one drawn at random.
        loss, accuracy: on the validation images after the training, nats and percent.
        number, of: which training it was, from 1, of how many.
    """

    genotype: Genotype
    rank: int | None
    loss: float
    accuracy: float
    number: int
    of: int

    @property
    def source(self) -> str:
        """``rank 2``, or ``random``."""
        return "random" if self.rank is None else f"rank {self.rank}"

    def describe(self) -> str:
        """One line."""
        layers = " / ".join(" ".join(names) for names in self.genotype.layers)
        return (
            f"verification {self.number}/{self.of}: {self.source}, validation loss {self.loss:.4f}, "
            f"accuracy {self.accuracy:.2f} %, {layers}"
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

    All start from the same ``seed``. Every process does all trainings; the main one writes.

    Raises:
        InputError: ``finished`` is damaged. RunStopped: a loss is not finite.
    """
    entries: list[tuple[int | None, Genotype]] = list(enumerate(ranked, 1))
    if control is not None:
        entries.append((None, control))
    verified = []
    for number, (rank, genotype) in enumerate(entries, 1):
        key: dict[str, Any] = {"layers": genotype.layers, "steps": recipe.steps, "seed": seed}
        if (row := finished.find(key)) is None:
            score = brief_score(genotype, data, recipe, seed=seed, accelerator=accelerator)
            row = finished.add(key, score, write=accelerator.is_main_process)
        one = Verified(genotype, rank, row["loss"], row["accuracy"], number, len(entries))
        verified.append(one)
        observe(one)
    return verified


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
    """The one of the lowest loss; ties go to the better rank, and a random one comes last."""
    return min(verified, key=lambda one: (one.loss, one.rank is None, one.rank))
