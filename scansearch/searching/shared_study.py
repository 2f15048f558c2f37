"""An evolution as an Optuna study that several processes may share: proposals, claims and scores."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from scansearch.directions import Layers
from scansearch.errors import InputError
from scansearch.files.in_place import check_no_link, open_in_place
from scansearch.searching.genotypes import Genotypes
from scansearch.searching.journal import machine, readable, repair
from scansearch.searching.proposals import Proposals
from scansearch.seeding import Stream, generate

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

NSGA_TRIES, RANDOM_TRIES = 20, 2000


class SharedStudy:
    """Trials are proposals; the attribute ``layers`` of a trial marks a claim.

    Args:
        genotypes: what may be proposed.
        proposals: those of a model, or the population of NSGA-II.
        name: of the study in the journal; only the same problem, proposed for in the same way, has it.
    """

    def __init__(
        self, genotypes: Genotypes, proposals: Proposals | int, name: str, seed: int, journal: Path | None
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.genotypes, self.proposals, self.seed, self.journal = genotypes, proposals, seed, journal
        self.process = f"{machine()}:{os.getpid()}"
        with self._locked():
            self.study: Study = optuna.create_study(
                study_name=name,
                directions=["minimize", "minimize"],
                storage=None if journal is None else _storage(journal),
                load_if_exists=True,
                sampler=self._sampler(0),
            )

    def _sampler(self, proposals: int) -> Any:
        from optuna.samplers import NSGAIISampler, RandomSampler

        drawn = int(np.random.SeedSequence([self.seed, proposals]).generate_state(1)[0])
        if isinstance(self.proposals, int):
            return NSGAIISampler(population_size=self.proposals, seed=drawn)
        return RandomSampler(seed=drawn)  # it has nothing to say: every trial is enqueued

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Whatever writes in the journal: one process at a time; the system frees the lock of one that dies.

        Raises:
            InputError: the journal is damaged. RunStopped: it cannot be written.
        """
        if self.journal is None:
            yield
            return
        import fcntl  # not on every system, and needed here only

        check_no_link(self.journal)
        with readable(self.journal), open_in_place(Path(f"{self.journal}.claims")) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def propose(self, evaluations: int) -> tuple[Trial, Layers] | None:
        """A new feasible genotype, claimed for this process, or None when there is nothing left to do.

        Raises:
            InputError: not one feasible genotype was found.
        """
        with self._locked():
            claimed = self._claims()
            if len(claimed) >= evaluations:
                return None
            tries = NSGA_TRIES if isinstance(self.proposals, int) else 0
            for attempt in range(tries + 1):
                trials = self.study.get_trials(deepcopy=False)
                generator = generate(Stream.EVOLUTION, self.seed, len(trials))
                genotype = self._enqueued(claimed, generator, fresh=attempt == tries)
                if genotype is not None:
                    self.study.enqueue_trial(self.genotypes.encode(genotype, generator))
                elif attempt == tries:
                    break
                self.study.sampler = self._sampler(len(trials))
                trial = self.study.ask(self.genotypes.distributions())
                layers = self.genotypes.decode(trial.params)
                if layers not in claimed and self.genotypes.feasible(layers):
                    trial.set_user_attr("process", self.process)
                    trial.set_user_attr("layers", layers)
                    return trial, layers
                self._give_up(trial)
        if not claimed:
            limits = ", ".join(f"{name} <= {limit:g}" for name, limit in self.genotypes.budgets.items())
            raise InputError(f"no genotype within the budgets was found ({limits})")
        return None

    def _enqueued(self, claimed: set[Layers], generator: np.random.Generator, fresh: bool) -> Layers | None:
        """A genotype that is not left to NSGA-II: one that covers new candidates, the model's, or a random new one."""
        first = self.genotypes.covering(generate(Stream.GENOTYPES, self.seed))
        for layers in first:
            if layers not in claimed and self.genotypes.feasible(layers):
                return layers
        if not isinstance(self.proposals, int):
            known = [(layers, loss) for layers, loss, _ in self._complete()]
            met = {layers for layers, _ in known}
            pending = sorted(layers for layers in claimed if layers not in met)
            proposed = self.proposals.next(known, pending, generator)
            if proposed is not None:
                return proposed
        # Neither may have anything new to say; then chance decides.
        for _ in range(RANDOM_TRIES if fresh else 0):
            layers = self.genotypes.random(generator)
            if layers not in claimed and self.genotypes.feasible(layers):
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
        """Release a proposal that was not scored."""
        with self._locked():
            self._give_up(trial)

    def _give_up(self, trial: Trial) -> None:
        from optuna.trial import TrialState

        self.study.tell(trial, state=TrialState.FAIL)

    def record(self, trial: Trial, loss: float, cost: float) -> None:
        """Keep what a proposal turned out to be."""
        with self._locked():
            self.study.tell(trial, [loss, cost])

    def scored(self) -> list[tuple[Layers, float, float]]:
        """Layers, loss and cost of everything recorded, in the order of the proposals."""
        with self._locked():
            return self._complete()

    def _complete(self) -> list[tuple[Layers, float, float]]:
        from optuna.trial import TrialState

        trials = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [(_layers(trial), trial.values[0], trial.values[1]) for trial in trials]


def _layers(trial: FrozenTrial) -> Layers:
    return tuple(tuple(names) for names in trial.user_attrs["layers"])


def _storage(journal: Path) -> Any:
    """Optuna's journal file. Its own lock would outlive a killed process by half a minute; ours is held instead."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    repair(journal)
    return JournalStorage(JournalFileBackend(str(journal), lock_obj=cast(Any, _NoLock())))


class _NoLock:
    """For what happens inside :meth:`SharedStudy._locked` only."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass
