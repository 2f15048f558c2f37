"""What the scan and the causal convolution cost, for counters that walk a graph of ``torch.jit.trace``, as fvcore does.

fvcore and timm's ``benchmark.py`` count one multiply-add as one, and pass over operations that they do not know:
without these handles the scans count nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

Handle = Callable[[Sequence[Any], Sequence[Any]], int]


def jit_handles() -> dict[str, Handle]:
    """Operation name -> how to count it, from its inputs and outputs as values of a traced graph.

        FlopCountAnalysis(model, images).set_op_handle(**scansearch.costing.jit_handles.jit_handles())

    A scan counts 9 per state, step and channel (as in VMamba's handle, so that totals compare), one for D and for the
    gate each, and one for each multiply-add of a low-rank delta; a causal convolution counts its multiply-adds. The
    merge of directions counts nothing, like additions everywhere in fvcore.
    """
    return {
        "scansearch::selective_scan": _scan,
        "scansearch::causal_conv": _conv,
        "scansearch::branch_means": _nothing,
        "scansearch::branch_sum": _nothing,
    }


def count_in_fvcore() -> None:
    """Make fvcore's ``FlopCountAnalysis`` use these handles in this process; nothing, where fvcore is not installed."""
    try:
        import fvcore.nn
    except ImportError:
        return
    plain = fvcore.nn.FlopCountAnalysis

    def counting(model: Any, inputs: Any) -> Any:
        return plain(model, inputs).set_op_handle(**jit_handles())

    fvcore.nn.FlopCountAnalysis = counting


def _scan(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    u, delta, weight, A, _, _, D, z, *rest = inputs
    rank = 0 if _is_none(weight) else _shape(delta)[3]
    per_channel = 9 * _shape(A)[2] + rank + (not _is_none(D)) + (not _is_none(z))
    lengths = rest[4]
    return int(_shape(u)[0] * sum(_integers(lengths)) * _shape(A)[1] * per_channel)


def _conv(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    x, weight, _, _, lengths, *_ = inputs
    return int(_shape(x)[0] * sum(_integers(lengths)) * math.prod(_shape(weight)[1:]))


def _nothing(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    return 0


def _shape(value: Any) -> list[int]:
    sizes: list[int] = value.type().sizes()
    return sizes


def _is_none(value: Any) -> bool:
    return bool(value.type().kind() == "NoneType")


def _integers(value: Any) -> list[int]:
    """A list of constants in the graph."""
    return [element.toIValue() for element in value.node().inputs()]
