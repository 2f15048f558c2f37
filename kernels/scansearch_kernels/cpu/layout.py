"""How a call is handed to the CPU kernels: one array of int64 holding sizes, addresses and strides."""

import numpy as np
import torch
from torch import Tensor

CHUNK = 16  # steps between two saved states
LANES = {torch.float32: 16, torch.float64: 8}  # channels in a vector
TILE = 4  # vectors that are walked together, so that a row is touched once and in one piece
LINE = 64  # bytes
# Vectors from one scratch array of a chunk to the next: odd, as arrays a multiple of 4 KiB apart would share cache sets
# and a load would wait for stores to the same place in another array.
STRIDE = CHUNK * TILE + 5

# Counters and sizes; then the address of each tensor, followed by its batch, direction and row strides where the
# caller decides them (those are counted in elements).
(
    NEXT_ITEM, NEXT_THREAD, ITEMS, SCRATCH, SCRATCH_SIZE, MARKS_SIZE,
    BATCH, DIRECTIONS, DIM, PADDED, TILES, STATES, STEPS, ROWS, LENGTH, RANK, WIDTH, SHARED, SOFTPLUS, KEEP,
    SPLIT, SLOTS, GROUPS,
    LENGTHS, READ, WRITE,
    U, U_B, U_K, U_R,
    DELTA, DELTA_B, DELTA_K, DELTA_R,
    B, B_B, B_K, B_R,
    C, C_B, C_K, C_R,
    Z, Z_B, Z_K, Z_R,
    DY, DY_B, DY_K, DY_R,
    WEIGHT, A, SKIP, BIAS, Y, SAVED,
    DU, DDELTA, DB, DC, DZ, DWEIGHT, DA, DSKIP, DBIAS,
    FIELDS,
) = range(66)  # fmt: skip


class Call:
    """The array of one call, and the tensors that must live as long as it does."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.fields = np.zeros(FIELDS, dtype=np.int64)
        self.kept: list[object] = []

    def sizes(self, **values: int) -> None:
        """Set fields by their names in lower case."""
        for name, value in values.items():
            self.fields[globals()[name.upper()]] = value

    def whole(self, which: int, tensor: Tensor | None) -> Tensor | None:
        """Hand over a contiguous tensor of which the kernel knows the layout."""
        if tensor is not None and tensor.numel():
            assert tensor.is_contiguous()
            self.kept.append(tensor)
            self.fields[which] = tensor.data_ptr()
        return tensor

    def rows(self, which: int, tensor: Tensor | None) -> None:
        """Hand over [batch, directions, rows, .] of any strides; one direction stands for all."""
        if tensor is None or not tensor.numel():
            return
        tensor = tensor.to(self.dtype)
        if tensor.stride(3) != 1 and tensor.shape[3] > 1:
            tensor = tensor.contiguous()
        self.kept.append(tensor)
        batch, direction, row, _ = tensor.stride()
        self.fields[which : which + 4] = (
            tensor.data_ptr(),
            batch,
            direction if tensor.shape[1] > 1 else 0,
            row,
        )

    def order(self, which: int, order: Tensor | None) -> None:
        """Hand over an order [directions, steps]."""
        if order is not None:
            self.whole(which, order.contiguous())

    def lengths(self, lengths: list[int]) -> None:
        """Hand over the number of steps of each direction."""
        array = np.array(lengths, dtype=np.int64)
        self.kept.append(array)
        self.fields[LENGTHS] = array.ctypes.data

    def scratch(self, threads: int, marks: int, numbers: int) -> None:
        """Give each thread `marks` bytes and then room for `numbers` numbers."""
        marks = -(-marks // LINE) * LINE
        size = marks + -(-numbers * self.dtype.itemsize // LINE) * LINE
        room = torch.empty(threads * size + LINE, dtype=torch.uint8)
        self.kept.append(room)
        self.fields[[SCRATCH, SCRATCH_SIZE, MARKS_SIZE]] = (-(-room.data_ptr() // LINE) * LINE, size, marks)


def padded(tensor: Tensor | None, dtype: torch.dtype, scale: float = 1.0) -> Tensor | None:
    """A small parameter [..., dim] with its channels filled up with zeros to whole vectors."""
    if tensor is None:
        return None
    dim, wide = tensor.shape[-1], padded_dim(tensor.shape[-1], dtype)
    if dim == wide:
        tensor = tensor.to(dtype).contiguous()
        return tensor if scale == 1.0 else tensor * scale
    room = torch.zeros(*tensor.shape[:-1], wide, dtype=dtype)
    room[..., :dim] = tensor
    return room.mul_(scale) if scale != 1.0 else room


def padded_dim(dim: int, dtype: torch.dtype) -> int:
    """Channels in whole vectors."""
    return -(-dim // LANES[dtype]) * LANES[dtype]
