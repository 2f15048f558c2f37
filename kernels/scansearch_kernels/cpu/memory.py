"""Large tensors on huge pages.

The C library hands tensors above 32 MiB back to the system when they are freed, and the next one starts on pages that
the system has yet to clear, one by one as they are touched. Where the system leaves it to the program
(`transparent_hugepage` at `madvise`), large results are put on pages of 2 MiB: one five-hundredth of the faults.
It is advice only: who owns the memory, and when it goes back, stays as it is. numpy does the same to its arrays.
"""

import ctypes
import mmap
import sys
from functools import cache
from typing import Any

import torch
from torch import Tensor

LEAST_BYTES = 4 * 2**20  # below that a tensor holds too few whole huge pages


def empty(*shape: int, dtype: torch.dtype) -> Tensor:
    """An uninitialised contiguous tensor, on huge pages where it is large and the system has them."""
    room = torch.empty(shape, dtype=dtype)
    advise = _advise()
    if advise is not None and room.nbytes >= LEAST_BYTES:
        start = -(-room.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (room.data_ptr() + room.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        advise(start, end - start, mmap.MADV_HUGEPAGE)  # a refusal changes nothing
    return room


@cache
def _advise() -> Any:
    """The C library's madvise, or None where huge pages cannot be asked for."""
    if sys.platform != "linux" or not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    function = ctypes.CDLL(None).madvise
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return function
