"""Evolution: which genotypes are best as sub-networks with inherited weights, and at what cost.

NSGA-II (Deb et al. 2002, through Optuna) over genotypes, as in single path one-shot search (arXiv 1904.00420,
section 3.4), with two objectives: the validation loss of the sub-network and its cost. No genotype is scored
twice, one outside the budgets never. Several processes work on one search when they are given the same journal
file: what one of them has scored or is scoring, no other one scores.

Randomness is a pure function of the seed and the number of proposals made so far, so one process that continues
from its journal goes on as if it had never stopped.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scansearch.directions import Layers
from scansearch.errors import InputError, RunStopped
from scansearch.records.costs import Costs
from scansearch.searching.journal import machine, readable
from scansearch.seeding import Stream, generate

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

NSGA_TRIES, RANDOM_TRIES = 20, 2000


@dataclass(frozen=True)
class Scored:
    """One sub-network: its directions, its mean validation loss (nats), and its cost (0 without ``Costs``)."""

    layers: Layers
    loss: float
    cost: float


@dataclass(frozen=True)
class Evolution:
    """What :func:`evolve` found.

    Attributes:
        candidates: direction names of every layer.
        measure: what ``cost`` counts, or None where all genotypes count as equally expensive.
        scored: every genotype that was scored, in the order of the proposals; none twice.
    """

    candidates: Layers
    measure: str | None
    scored: tuple[Scored, ...]

    @cached_property
    def front(self) -> tuple[Scored, ...]:
        """The genotypes that none beats in both loss and cost, cheapest first; ties go to the first name."""
        front: list[Scored] = []
        for one in sorted(self.scored, key=lambda one: (one.cost, one.loss, one.layers)):
            if not front or one.loss < front[-1].loss:
                front.append(one)
        return tuple(front)

    @property
    def best(self) -> Scored:
        """The genotype with the lowest loss; ties go to the cheapest, then to the first name."""
        return self.front[-1]

    def marginal_scores(self, ridge: float = 1.0) -> list[list[float]]:
        """How much each candidate of each layer lowers the loss (nats), other directions being equal.

        The coefficients of an additive model of -loss, fitted to all scored genotypes by least squares with a
        ``ridge`` penalty. So the summed score that :func:`scansearch.derive` maximises is what that model
        predicts; a candidate that was never scored gets 0, which is the mean.
        """
        names = [(layer, name) for layer, allowed in enumerate(self.candidates) for name in allowed]
        chosen = np.array(
            [[name in one.layers[layer] for layer, name in names] for one in self.scored], float
        )
        gain = -np.array([one.loss for one in self.scored])
        design = chosen - chosen.mean(0)
        penalised = np.vstack([design, math.sqrt(ridge) * np.eye(len(names))])
        target = np.concatenate([gain - gain.mean(), np.zeros(len(names))])
        values = iter(np.linalg.lstsq(penalised, target, rcond=None)[0].tolist())
        return [[next(values) for _ in allowed] for allowed in self.candidates]

    def to_json(self) -> str:
        """Candidates, measure, everything scored, and which of it is the front (as positions in that list)."""
        content = asdict(self) | {"schema": 1, "front": [self.scored.index(one) for one in self.front]}
        return json.dumps(content, indent=1) + "\n"


def evolve(
    candidates: Sequence[Sequence[str]],
    loss: Callable[[Layers], float],
    *,
    k: int | None = None,
    k_min: int = 1,
    k_max: int | None = None,
    costs: Costs | None = None,
    measure: str = "flops",
    budgets: Mapping[str, float] | None = None,
    evaluations: int = 100,
    population: int = 20,
    seed: int = 0,
    journal: str | Path | None = None,
) -> Evolution:
    """Search the genotypes with ``k`` (or ``k_min`` to ``k_max``) directions per layer by NSGA-II.

    The first generation covers every candidate of every layer; after ``evaluations`` genotypes, or when no new
    feasible one is found, it ends.

    Args:
        candidates: direction names of every layer.
        loss: the loss to minimise, for a tuple of direction names per layer in candidate order.
        costs: what directions cost; their total in ``measure`` is the second objective.
        budgets: upper limits by measure (needs ``costs``); a genotype above one is never scored.
        evaluations: scored genotypes of the whole search, over all its processes.
        population: parents kept from one generation to the next.
        journal: a file that several processes may share, or that continues a search which was interrupted; it
            holds one search for each set of candidates, sizes, budgets and ``seed``.

    Raises:
        InputError: sizes, measures or budgets that cannot be; no genotype within the budgets was found.
        RunStopped: the loss of a sub-network is not finite.
    """
    problem = _Problem(candidates, k, k_min, k_max, costs, measure, budgets or {})
    if evaluations < 1 or population < 2:
        raise InputError(
            f"evolution needs at least 1 evaluation and a population of 2, not {evaluations}, {population}"
        )
    search = _Search(problem, population, seed, Path(journal) if journal is not None else None)
    while (proposal := search.propose(evaluations)) is not None:
        trial, layers = proposal
        try:
            value = loss(layers)
        except RunStopped:
            search.give_up(trial)
            raise
        if not math.isfinite(value):
            search.give_up(trial)
            raise RunStopped(f"the loss of sub-network {layers} is {value}")
        search.record(trial, value, problem.cost(layers))
    return Evolution(problem.candidates, measure if costs is not None else None, search.scored())


class _Problem:
    """Which genotypes there are, which of them are feasible, and how numbers in [0, 1] (genes) describe one.

    A layer's genes are one key per candidate and, where it may vary, the number of directions: the candidates
    with the largest keys are chosen. So any crossing of two genotypes is a genotype.
    """

    def __init__(
        self,
        candidates: Sequence[Sequence[str]],
        k: int | None,
        k_min: int,
        k_max: int | None,
        costs: Costs | None,
        measure: str,
        budgets: Mapping[str, float],
    ) -> None:
        self.candidates: Layers = tuple(tuple(names) for names in candidates)
        smallest = min(len(names) for names in self.candidates)
        if k is not None and (k_min != 1 or k_max is not None):
            raise InputError("give either k, or k_min and k_max")
        low, high = (k_min, k_max) if k is None else (k, k)
        if not 1 <= low <= smallest or (high is not None and high < low):
            raise InputError(
                f"{low} to {high} directions per layer: allowed are 1 to {smallest}, lowest first"
            )
        self.sizes = [(low, min(high or len(names), len(names))) for names in self.candidates]
        if costs is None and budgets:
            raise InputError("budgets need costs")
        if costs is not None:
            if costs.candidates != self.candidates:
                raise InputError("the costs are those of other candidates")
            for name in (measure, *budgets):
                if name not in costs.measures:
                    raise InputError(
                        f"measure {name!r} is not in the costs (allowed: {', '.join(costs.measures)})"
                    )
        self.costs, self.measure, self.budgets = costs, measure, dict(budgets)

    def cost(self, layers: Layers) -> float:
        return self.costs.of(layers)[self.measure] if self.costs is not None else 0.0

    def feasible(self, layers: Layers) -> bool:
        if self.costs is None or not self.budgets:
            return True
        totals = self.costs.of(layers)
        return all(totals[name] <= limit for name, limit in self.budgets.items())

    def distributions(self) -> dict[str, Any]:
        from optuna.distributions import FloatDistribution, IntDistribution

        genes: dict[str, Any] = {}
        for layer, (names, (low, high)) in enumerate(zip(self.candidates, self.sizes, strict=True)):
            genes |= {f"{layer}.{name}": FloatDistribution(0.0, 1.0) for name in names}
            if low < high:
                genes[f"{layer}.k"] = IntDistribution(low, high)
        return genes

    def decode(self, genes: Mapping[str, float]) -> Layers:
        layers = []
        for layer, (names, (low, _)) in enumerate(zip(self.candidates, self.sizes, strict=True)):
            count = int(genes.get(f"{layer}.k", low))
            best = set(sorted(names, key=lambda name: -genes[f"{layer}.{name}"])[:count])
            layers.append(tuple(name for name in names if name in best))
        return tuple(layers)

    def encode(self, layers: Layers, generator: np.random.Generator) -> dict[str, float]:
        genes: dict[str, float] = {}
        for layer, (names, (low, high)) in enumerate(zip(self.candidates, self.sizes, strict=True)):
            keys = np.sort(generator.random(len(names))).tolist()
            genes |= {f"{layer}.{name}": keys.pop() for name in names if name in layers[layer]}
            genes |= {f"{layer}.{name}": keys.pop() for name in names if name not in layers[layer]}
            if low < high:
                genes[f"{layer}.k"] = len(layers[layer])
        return genes

    def random(self, generator: np.random.Generator) -> Layers:
        return self._ordered(
            generator.permutation(names)[: generator.integers(low, high + 1)].tolist()
            for names, (low, high) in zip(self.candidates, self.sizes, strict=True)
        )

    def covering(self, generator: np.random.Generator) -> list[Layers]:
        """Few genotypes that hold every candidate of every layer: first of the most directions, then of the fewest."""
        genotypes = []
        for end in (1, 0) if self.sizes != [(low, low) for low, _ in self.sizes] else (0,):
            counts = [size[end] for size in self.sizes]
            decks = [generator.permutation(names).tolist() for names in self.candidates]
            groups = max(-(-len(deck) // count) for deck, count in zip(decks, counts, strict=True))
            genotypes += [
                self._ordered(
                    [deck[(group * count + i) % len(deck)] for i in range(count)]
                    for deck, count in zip(decks, counts, strict=True)
                )
                for group in range(groups)
            ]
        return genotypes

    def _ordered(self, chosen: Any) -> Layers:
        pairs = zip(self.candidates, chosen, strict=True)
        return tuple(tuple(name for name in names if name in layer) for names, layer in pairs)

    def name(self, seed: int) -> str:
        """A name that only the same problem has."""
        costs = self.costs.to_json() if self.costs is not None else ""
        content = json.dumps([self.candidates, self.sizes, self.measure, self.budgets, costs, seed])
        return f"evolution-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


class _Search:
    """The state of one search as an Optuna study: trials are proposals, the attribute ``layers`` marks a claim."""

    def __init__(self, problem: _Problem, population: int, seed: int, journal: Path | None) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.problem, self.population, self.seed, self.journal = problem, population, seed, journal
        self.process = f"{machine()}:{os.getpid()}"
        with self._lock(), readable(journal):
            self.study: Study = optuna.create_study(
                study_name=problem.name(seed),
                directions=["minimize", "minimize"],
                storage=None if journal is None else JournalStorage(JournalFileBackend(str(journal))),
                load_if_exists=True,
                sampler=self._sampler(0),
            )

    def _sampler(self, proposals: int) -> Any:
        from optuna.samplers import NSGAIISampler

        drawn = np.random.SeedSequence([self.seed, proposals]).generate_state(1)
        return NSGAIISampler(population_size=self.population, seed=int(drawn[0]))

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One process at a time; the system frees the lock of a process that dies."""
        if self.journal is None:
            yield
            return
        import fcntl  # not on every system, and needed here only

        try:
            file = open(f"{self.journal}.claims", "w", encoding="utf-8")  # noqa: SIM115 - Optuna has a .lock of its own
        except OSError as error:
            raise RunStopped(
                f"cannot write {f'{self.journal}.claims'!r}: {error.strerror or error}"
            ) from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def propose(self, evaluations: int) -> tuple[Trial, Layers] | None:
        """A new feasible genotype, claimed for this process, or None when there is nothing left to do.

        Raises:
            InputError: not one feasible genotype was found.
        """
        with self._lock(), readable(self.journal):
            claimed = self._claims()
            if len(claimed) >= evaluations:
                return None
            for attempt in range(NSGA_TRIES + 1):
                trials = self.study.get_trials(deepcopy=False)
                generator = generate(Stream.EVOLUTION, self.seed, len(trials))
                genotype = self._enqueued(claimed, generator, fresh=attempt == NSGA_TRIES)
                if genotype is not None:
                    self.study.enqueue_trial(self.problem.encode(genotype, generator))
                elif attempt == NSGA_TRIES:
                    break
                self.study.sampler = self._sampler(len(trials))
                trial = self.study.ask(self.problem.distributions())
                layers = self.problem.decode(trial.params)
                if layers not in claimed and self.problem.feasible(layers):
                    trial.set_user_attr("process", self.process)
                    trial.set_user_attr("layers", layers)
                    return trial, layers
                self.give_up(trial)
        if not claimed:
            limits = ", ".join(f"{name} <= {limit:g}" for name, limit in self.problem.budgets.items())
            raise InputError(f"no genotype within the budgets was found ({limits})")
        return None

    def _enqueued(self, claimed: set[Layers], generator: np.random.Generator, fresh: bool) -> Layers | None:
        """A genotype to put before what NSGA-II proposes: one that covers new candidates, or a random new one."""
        first = self.problem.covering(generate(Stream.GENOTYPES, self.seed))
        for layers in first:
            if layers not in claimed and self.problem.feasible(layers):
                return layers
        # NSGA-II may have nothing new to say; then chance decides.
        for _ in range(RANDOM_TRIES if fresh else 0):
            layers = self.problem.random(generator)
            if layers not in claimed and self.problem.feasible(layers):
                return layers
        return None

    def _claims(self) -> set[Layers]:
        """Genotypes that were scored or are being scored; claims of dead processes of this machine are dropped."""
        from optuna.trial import TrialState

        claimed = set()
        for trial in self.study.get_trials(deepcopy=False):
            if (
                trial.state not in (TrialState.COMPLETE, TrialState.RUNNING)
                or "layers" not in trial.user_attrs
            ):
                continue
            if trial.state == TrialState.RUNNING and self._is_dead(trial):
                self.study.tell(trial.number, state=TrialState.FAIL)
                continue
            claimed.add(_layers(trial))
        return claimed

    def _is_dead(self, trial: FrozenTrial) -> bool:
        host, _, process = str(trial.user_attrs.get("process")).rpartition(":")
        # The bare host name is what earlier versions wrote.
        if host not in (machine(), socket.gethostname()) or not process.isdecimal():
            return False
        if int(process) == os.getpid():
            return False
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            return True
        except (PermissionError, OverflowError):
            pass
        return False

    def give_up(self, trial: Trial) -> None:
        from optuna.trial import TrialState

        self.study.tell(trial, state=TrialState.FAIL)

    def record(self, trial: Trial, loss: float, cost: float) -> None:
        self.study.tell(trial, [loss, cost])

    def scored(self) -> tuple[Scored, ...]:
        from optuna.trial import TrialState

        trials = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return tuple(Scored(_layers(trial), trial.values[0], trial.values[1]) for trial in trials)


def _layers(trial: FrozenTrial) -> Layers:
    return tuple(tuple(names) for names in trial.user_attrs["layers"])
