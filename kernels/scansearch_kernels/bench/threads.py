"""Whether threads help: one call on one thread, on all of them, and several Python threads that call at once."""

import threading
import time
from collections.abc import Callable

import torch

from scansearch_kernels import selective_scan
from scansearch_kernels.bench.cases import Size, arguments

CALLS = 3  # of each Python thread in a round


def threads_ms(size: Size, repeats: int) -> dict[str, float]:
    """Milliseconds of wall time for each forward with backward, the best of `repeats` rounds.

    Returns:
        `one`: on one thread. `all`: on torch's number of threads. `callers`: the time of a round of as many Python
        threads (at least two) that call at once, over the number of their calls.
    """
    given, leaves, dy = arguments(size, size.batch)

    def call() -> None:
        torch.autograd.grad(selective_scan(**given, backend="cpu"), leaves, dy)

    threads = torch.get_num_threads()
    callers = max(2, threads)
    best = {"one": float("inf"), "all": float("inf"), "callers": float("inf")}
    call()
    for _ in range(repeats):
        torch.set_num_threads(1)
        best["one"] = min(best["one"], _milliseconds(call))
        torch.set_num_threads(threads)
        best["all"] = min(best["all"], _milliseconds(call))
        together = _milliseconds(lambda: _at_once(call, callers))
        best["callers"] = min(best["callers"], together / (CALLS * callers))
    return best


def line(times: dict[str, float], threads: int) -> str:
    """The result of `threads_ms` as text; a ratio above 1 is faster than one thread."""
    one = times["one"]
    return (
        f"one thread {one:.2f} ms, {threads} threads {times['all']:.2f} ms ({one / times['all']:.2f}x),"
        f" {max(2, threads)} Python threads at once {times['callers']:.2f} ms a call ({one / times['callers']:.2f}x)"
    )


def _at_once(call: Callable[[], None], callers: int) -> None:
    def work() -> None:
        for _ in range(CALLS):
            call()

    team = [threading.Thread(target=work) for _ in range(callers)]
    for member in team:
        member.start()
    for member in team:
        member.join()


def _milliseconds(function: Callable[[], None]) -> float:
    start = time.perf_counter()
    function()
    return 1e3 * (time.perf_counter() - start)
