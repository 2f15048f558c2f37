"""Jobs in worker processes, and the file to which their results are appended. Shared by the experiments."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

AnyJob = TypeVar("AnyJob")


def one_thread_each() -> None:
    """Let every worker process compute on one thread; to be called before the workers start."""
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"


def whole_lines(path: Path) -> list[str]:
    """The lines of ``path`` that were written to their end; none where there is no file yet."""
    if not path.exists():
        return []
    return path.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()


def append_line(path: Path, line: str, header: str = "") -> None:
    """Add one line in a single write, after mending a last line that a killed process left without its end.

    ``header`` goes before it when the file is new.
    """
    with open(path, "a+b") as file:
        file.seek(0)
        content = file.read()
        if not content and header:
            line = header + "\n" + line
        elif content and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)
        os.write(file.fileno(), (line + "\n").encode())
        os.fsync(file.fileno())


def results(work: Callable[[AnyJob], str], jobs: list[AnyJob], processes: int) -> Iterator[str]:
    """What ``work`` makes of each job, in worker processes, as it ends."""
    queue = iter(jobs)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        running = {pool.submit(work, job) for job in itertools.islice(queue, processes)}
        while running:
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(work, job) for job in itertools.islice(queue, len(ended))}
            for future in ended:
                yield future.result()
