"""What this machine can do at most: the yardstick of the benchmark.

The floor is the full step of the recurrence, one exponential and three updates, on numbers that stay in registers
and the nearest cache, on all threads at once; nothing that also moves tensors can be faster. Beside it, the rate of
plain fused multiply-adds and the bandwidth of memory.
"""

import time
from typing import Any

import numpy as np
import torch
from numba import cfunc, njit, types

from scansearch_kernels.cpu import threads
from scansearch_kernels.cpu.vector_math import lane_count, power
from scansearch_kernels.cpu.vectors import fetch_add, load, offset, pointer, spread, vload, vstore

COUNTER, ITEMS, DATA, SIZE, ROUNDS = range(5)
STEPS, STATES, CHAINS = 16, 4, 12
ONE, INTEGER = np.float32(1), np.int64(0)
# A step takes nine operations of the multiply-add units (scale, five for the polynomial, three updates), so no
# floor can exceed a ninth of their rate; below this fraction something disturbed the measurement. With two full-width
# AVX-512 cores at 4 GHz (256 G a second) the bar is 20 G steps a second.
LEAST_FRACTION = 1 / 12.8


@njit
def _steps(address: int) -> None:
    p = pointer(address, INTEGER)
    item = fetch_add(offset(p, COUNTER))
    if item >= load(p, ITEMS):
        return
    lanes = lane_count(ONE)
    data = pointer(load(p, DATA) + item * load(p, SIZE), ONE)
    deltas, inflows = data, offset(data, STEPS * lanes)
    B, C = offset(data, 2 * STEPS * lanes), offset(data, 2 * STEPS * lanes + STEPS * STATES)
    A = offset(C, STEPS * STATES)
    A0, A1, A2, A3 = vload(A, 0), vload(A, lanes), vload(A, 2 * lanes), vload(A, 3 * lanes)
    h0, h1, h2, h3 = A0, A1, A2, A3
    result = spread(ONE)
    for _ in range(load(p, ROUNDS)):
        for t in range(STEPS):
            delta, inflow = vload(deltas, t * lanes), vload(inflows, t * lanes)
            h0 = power(delta * A0) * h0 + inflow * load(B, 4 * t)
            h1 = power(delta * A1) * h1 + inflow * load(B, 4 * t + 1)
            h2 = power(delta * A2) * h2 + inflow * load(B, 4 * t + 2)
            h3 = power(delta * A3) * h3 + inflow * load(B, 4 * t + 3)
            result = h0 * load(C, 4 * t) + result
            result = h1 * load(C, 4 * t + 1) + result
            result = h2 * load(C, 4 * t + 2) + result
            result = h3 * load(C, 4 * t + 3) + result
    vstore(A, 0, result)


@njit
def _multiply_adds(address: int) -> None:
    p = pointer(address, INTEGER)
    item = fetch_add(offset(p, COUNTER))
    if item >= load(p, ITEMS):
        return
    lanes = lane_count(ONE)
    data = pointer(load(p, DATA) + item * load(p, SIZE), ONE)
    x, y = vload(data, 0), vload(data, lanes)
    a, b, c, d, e, f = x, y, x + y, x - y, y - x, x + x
    g, h, i, j, k, m = y + y, x * y, x * x, y * y, x + c, y + c
    for _ in range(load(p, ROUNDS)):
        a, b, c, d, e, f = a * x + y, b * x + y, c * x + y, d * x + y, e * x + y, f * x + y
        g, h, i, j, k, m = g * x + y, h * x + y, i * x + y, j * x + y, k * x + y, m * x + y
    vstore(data, 2 * lanes, a + b + c + d + e + f + g + h + i + j + k + m)


def _native(function: Any) -> int:
    def entry(address: int) -> None:
        function(address)

    compiled = cfunc(types.void(types.int64))(entry)
    _kept.append(compiled)
    address: int = compiled.address
    return address


_kept: list[Any] = []  # compiled functions live as long as the process


class Floor:
    """Measures again and again, and remembers the best of each."""

    def __init__(self) -> None:
        self.threads = torch.get_num_threads()
        self.steps_per_s = self.multiply_adds_per_s = self.bytes_per_s = 0.0
        self._step, self._fma = _native(_steps), _native(_multiply_adds)
        self._data = torch.rand(self.threads, 4096) * 0.1
        self._data[:, 640:] = -self._data[:, 640:]
        self._copy = torch.zeros(2, 16 * 2**20)

    def measure(self) -> None:
        """One more round of a few milliseconds each."""
        lanes = 16
        rounds = 4000
        seconds = self._run(self._step, rounds)
        self.steps_per_s = max(self.steps_per_s, self.threads * rounds * STEPS * STATES * lanes / seconds)
        rounds = 400_000
        seconds = self._run(self._fma, rounds)
        self.multiply_adds_per_s = max(
            self.multiply_adds_per_s, self.threads * rounds * CHAINS * lanes / seconds
        )
        start = time.perf_counter()
        self._copy[0].copy_(self._copy[1])
        seconds = time.perf_counter() - start
        self.bytes_per_s = max(self.bytes_per_s, 2 * self._copy[0].nbytes / seconds)

    def plausible(self) -> bool:
        """Whether the floor is as high as the machine's own rate of multiply-adds says that it must be."""
        return self.steps_per_s >= LEAST_FRACTION * self.multiply_adds_per_s

    def _run(self, function: int, rounds: int) -> float:
        call = np.zeros(5, dtype=np.int64)
        call[[ITEMS, DATA, SIZE, ROUNDS]] = self.threads, self._data.data_ptr(), 4096 * 4, rounds
        start = time.perf_counter()
        threads.run(function, call.ctypes.data, self.threads)
        return time.perf_counter() - start


def processor() -> str:
    """The processor's name, as the operating system gives it."""
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        import platform

        return platform.processor() or platform.machine()
