"""Which vector instructions the CPU kernels are compiled to."""

import platform
import re
from functools import cache


@cache
def instruction_set() -> str:
    """AVX-512, AVX2 or SSE, read off the code that Numba makes of a vector addition; elsewhere the processor."""
    from numba import cfunc, types

    from scansearch_kernels.cpu.vectors import pointer, vload, vstore

    if platform.machine() not in ("x86_64", "AMD64"):
        return platform.machine()

    def double(address: int) -> None:
        row = pointer(address, 1.0)
        vstore(row, 0, vload(row, 0) + vload(row, 0))

    code = cfunc(types.void(types.int64))(double).inspect_llvm()
    assembly = _assembly(code)
    if re.search(r"\bzmm\d", assembly):
        return "AVX-512"
    return "AVX2" if re.search(r"\bymm\d", assembly) else "SSE"


def _assembly(code: str) -> str:
    from numba.core.registry import cpu_target

    machine = cpu_target.target_context.codegen()._tm
    from llvmlite import binding  # type: ignore[import-untyped]

    text: str = machine.emit_assembly(binding.parse_assembly(code))
    return text
