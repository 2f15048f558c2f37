"""The multi-direction selective scan and the causal convolution before it, along any order, copy-free."""

from scansearch_kernels import ops as _ops  # noqa: F401  (a FLOP counter copies the formulas when it is made)
from scansearch_kernels.backends import available_backends
from scansearch_kernels.interface import causal_conv, selective_scan
from scansearch_kernels.merge import branch_means, branch_sum

__all__ = ["available_backends", "branch_means", "branch_sum", "causal_conv", "selective_scan"]
