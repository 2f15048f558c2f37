"""Running a kernel on several threads without a second pool of them.

torch's own OpenMP team does the work where it can be reached, because its idle threads spin for a while after each
of torch's operations and would stand in the way of others. Elsewhere a small pool of Python threads does it (the
kernels run outside the interpreter lock). One thread is used for small work, in a forked child (an OpenMP team
does not survive a fork), and while another Python thread has the team.
"""

import ctypes
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")
_team = threading.Lock()
_forked = False
_pools: dict[int, ThreadPoolExecutor] = {}


def _after_fork() -> None:
    global _forked, _team
    _forked = True
    _team = threading.Lock()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def threads_for(items: int, work: int) -> int:
    """Threads for so many items of work and so many elementary steps: torch's number, or 1 where that is better."""
    threads = min(torch.get_num_threads(), items)
    return 1 if threads < 2 or work < 200_000 or _forked else threads


def fork_safe(function: Callable[P, R]) -> Callable[P, R]:
    """Let `function` use one thread in a forked child, where torch's own operations would wait for ever too."""

    @wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        before = torch.get_num_threads()
        if not _forked or before == 1:
            return function(*args, **kwargs)
        torch.set_num_threads(1)
        try:
            return function(*args, **kwargs)
        finally:
            torch.set_num_threads(before)

    return guarded


def run(function: int, argument: int, threads: int) -> None:
    """Call the native `void function(int64)` at an address, from `threads` threads at once, and wait for all."""
    call = ctypes.CFUNCTYPE(None, ctypes.c_int64)(function)
    if threads < 2 or not _team.acquire(blocking=False):
        call(argument)
        return
    try:
        parallel = _openmp()
        if parallel is not None:
            parallel(function, argument, threads, 0)
        else:
            helpers = [_pool(threads - 1).submit(call, argument) for _ in range(threads - 1)]
            call(argument)
            for helper in helpers:
                helper.result()
    finally:
        _team.release()


def openmp_in_use() -> bool:
    """Whether torch's OpenMP team can be used."""
    return _openmp() is not None


@cache
def _openmp() -> "ctypes._FuncPointer | None":
    """GOMP_parallel of the OpenMP library that torch itself has loaded."""
    if "OpenMP" not in torch.__config__.parallel_info():
        return None
    for library in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        try:
            parallel = ctypes.CDLL(str(library), mode=os.RTLD_NOLOAD).GOMP_parallel
        except (OSError, AttributeError):
            continue
        parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        parallel.restype = None
        return parallel
    return None


def _pool(threads: int) -> ThreadPoolExecutor:
    if threads not in _pools:
        _pools[threads] = ThreadPoolExecutor(threads, thread_name_prefix="scansearch-kernel")
    return _pools[threads]
