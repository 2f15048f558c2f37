"""Forward and backward of one small layer, for compute-sanitizer."""

import torch
from common import DEVICE, synchronize
from scansearch_kernels import selective_scan
from scansearch_kernels.bench.device import arguments_of
from scansearch_kernels.bench.published_sizes import LayerSize

for size in (
    LayerSize("gated", 2, 49, 49, 64, 12, True, states=16),
    LayerSize("shared tokens", 2, 49, 49, 96, 6, False, states=16),
):
    arguments, learned = arguments_of(size, 2, torch.bfloat16, DEVICE, "w7")
    y = selective_scan(**arguments, backend="cuda")
    gradients = torch.autograd.grad(y, learned, torch.ones_like(y))
    synchronize()
    print(size.name, all(bool(torch.isfinite(part).all()) for part in (y, *gradients)))
