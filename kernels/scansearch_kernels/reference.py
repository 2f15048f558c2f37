"""The op in plain differentiable torch: slow and right, on any device and in any dtype.

`scan_loop` is the definition, one step after another. `scan_chunked` computes the same in chunks with
a log-depth scan inside each (Hillis and Steele, 1986), and is what the `reference` backend runs. Both can be
differentiated any number of times.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from scansearch_kernels.calls import ConvCall, ScanCall
from scansearch_kernels.rows import alive, rows_in_order, rows_to_image

CHUNK = 16


def available() -> None:
    """Plain torch: always there."""


def selective_scan(call: ScanCall) -> Tensor:
    """The `reference` backend: the chunked form."""
    return scan_chunked(call)


def scan_loop(call: ScanCall) -> Tensor:
    """h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t and y_t = C_t h_t + D u_t, one step after another."""
    with torch.autocast(call.u.device.type, enabled=False):
        u, delta, B, C = _gathered(call)
        A = call.A.to(u.dtype)
        state = u.new_zeros(u.shape[0], A.shape[0], A.shape[1], A.shape[2])
        outputs = []
        for step in range(call.steps):
            decay = torch.exp(delta[:, :, step, :, None] * A)
            state = decay * state + (delta * u)[:, :, step, :, None] * B[:, :, step, None, :]
            outputs.append((state * C[:, :, step, None, :]).sum(-1))
        scanned = torch.stack(outputs, dim=2) if outputs else torch.zeros_like(delta)
        return _finished(call, scanned, u)


def scan_chunked(call: ScanCall, chunk: int = CHUNK) -> Tensor:
    """The same as `scan_loop`; without gradients holds [batch, directions, chunk, dim, states] at a time."""
    with torch.autocast(call.u.device.type, enabled=False):
        u, delta, B, C = _gathered(call)
        A = call.A.to(u.dtype)
        state = u.new_zeros(u.shape[0], A.shape[0], 1, A.shape[1], A.shape[2])
        outputs = []
        for start in range(0, call.steps, chunk):
            part = slice(start, start + chunk)
            decay = torch.exp(delta[:, :, part, :, None] * A[:, None])
            inflow = (delta * u)[:, :, part, :, None] * B[:, :, part, None, :]
            decay, inflow = _prefix_scan(decay, inflow)
            states = inflow + decay * state
            outputs.append((states * C[:, :, part, None, :]).sum(-1))
            state = states[:, :, -1:]
        scanned = torch.cat(outputs, dim=2) if outputs else torch.zeros_like(delta)
        return _finished(call, scanned, u)


def causal_conv(call: ConvCall) -> Tensor:
    """SiLU of the causal depthwise convolution along each order, by `width` shifted products."""
    with torch.autocast(call.x.device.type, enabled=False):
        dtype = call.compute_dtype
        directions, _, width = call.weight.shape
        x = call.x.to(dtype)[:, None].expand(-1, directions, -1, -1)
        x = F.pad(rows_in_order(x, call.read_order), (0, 0, width - 1, 0))
        weight = call.weight.to(dtype)
        y = weight[:, None, :, 0] * x[:, :, : call.steps]
        for tap in range(1, width):
            y = y + weight[:, None, :, tap] * x[:, :, tap : tap + call.steps]
        if call.bias is not None:
            y = y + call.bias.to(dtype)[:, None]
        return (F.silu(y) * alive(call.lengths, call.steps, y)).to(call.x.dtype)


def _prefix_scan(decay: Tensor, inflow: Tensor) -> tuple[Tensor, Tensor]:
    """Inclusive scan over axis 2 of h_t = decay_t h_{t-1} + inflow_t: products of decays; states from 0."""
    length, reach = decay.shape[2], 1
    while reach < length:
        later, earlier = decay[:, :, reach:], decay[:, :, :-reach]
        inflow = torch.cat(
            [inflow[:, :, :reach], inflow[:, :, reach:] + later * inflow[:, :, :-reach]], dim=2
        )
        decay = torch.cat([decay[:, :, :reach], later * earlier], dim=2)
        reach *= 2
    return decay, inflow


def _gathered(call: ScanCall) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """u, delta, B, C in scan order and compute dtype, all [batch, directions, steps, .]."""
    dtype = call.compute_dtype
    directions = call.A.shape[0]
    u = rows_in_order(call.u.to(dtype).expand(-1, directions, -1, -1), call.read_order)
    delta = call.delta.to(dtype)
    if call.delta_weight is not None:
        delta = torch.einsum("bklr,kdr->bkld", delta, call.delta_weight.to(dtype))
    delta = rows_in_order(delta, call.read_order)
    if call.delta_bias is not None:
        delta = delta + call.delta_bias.to(dtype)[:, None]
    if call.delta_softplus:
        delta = torch.logaddexp(delta, torch.zeros_like(delta))  # F.softplus is cut off at 20
    B = rows_in_order(call.B.to(dtype), call.read_order)
    C = rows_in_order(call.C.to(dtype), call.read_order)
    return u, delta, B, C


def _finished(call: ScanCall, scanned: Tensor, u: Tensor) -> Tensor:
    """Skip connection, end of each direction, image positions, gate."""
    if call.D is not None:
        scanned = scanned + call.D.to(u.dtype)[:, None] * u
    y = rows_to_image(scanned * alive(call.lengths, call.steps, u), call.write_order, call.image_length)
    if call.z is not None:
        y = y * F.silu(call.z.to(u.dtype))[:, None]
    return y.to(call.u.dtype)
