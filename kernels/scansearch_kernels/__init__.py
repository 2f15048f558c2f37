"""The multi-direction selective scan and the causal convolution before it, along any order, copy-free."""

# A FLOP counter copies the formulas when it is made, and a saved program looks for kernels when it is run.
from scansearch_kernels import registration as _registration  # noqa: F401
from scansearch_kernels.backends import available_backends
from scansearch_kernels.interface import causal_conv, selective_scan
from scansearch_kernels.merge import branch_means, branch_sum

__all__ = ["available_backends", "branch_means", "branch_sum", "causal_conv", "selective_scan"]
