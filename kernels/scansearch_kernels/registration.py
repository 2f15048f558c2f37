"""Kernels stand behind the registered operations from import on, so that saved programs find them.

Those of the CPU are registered here. Triton's are looked for at the first call, because it takes long to import.
"""

import importlib
from collections.abc import Callable
from typing import Any

from scansearch_kernels import ops
from scansearch_kernels.cpu import backend as cpu_backend

GPU = "scansearch_kernels.gpu.backend"


def _at_first_call(operation: Any) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        importlib.import_module(GPU)  # registers its kernels in the place of this function
        return operation(*arguments)

    return run


registered = [cpu_backend]
for _operation in (ops.scan, ops.scan_backward, ops.conv, ops.conv_backward):
    _operation.register_kernel("cuda")(_at_first_call(_operation))
