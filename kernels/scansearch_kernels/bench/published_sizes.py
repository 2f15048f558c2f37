"""The scan, convolution and merge sizes of the published models at 224 x 224, as plain data.

`scansearch_kernels` knows no models; a test of the project compares this table with the models themselves.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from scansearch_kernels.calls import ConvCall, ScanCall


@dataclass(frozen=True)
class LayerSize:
    """One layer's sizes. `convolved`: LocalVim (own tokens per direction after a causal convolution of width 4,
    gate in the scan); else LocalVMamba (all directions read the same tokens, no gate). `merges`: how models of this
    size merge their branches, each with or without channel factors and with or without gates."""

    name: str
    directions: int
    tokens: int
    steps: int
    dim: int
    rank: int
    convolved: bool
    states: int = 16
    width: int = 4
    merges: tuple[tuple[bool, bool], ...] = ((True, False),)

    def scan_call(
        self,
        batch: int,
        dtype: torch.dtype,
        parameter_dtype: torch.dtype = torch.float32,
        device: str = "meta",
    ) -> ScanCall:
        """A call of these sizes with uninitialised tensors; on `meta` it costs nothing."""
        count, dim, states = self.directions, self.dim, self.states

        def make(*shape: int, kind: torch.dtype = dtype) -> Tensor:
            return torch.empty(shape, dtype=kind, device=device)

        def parameter(*shape: int) -> Tensor:
            return make(count, dim, *shape, kind=parameter_dtype)

        projected = make(batch, count, self.tokens, self.rank + 2 * states)
        low, B, C = projected.split([self.rank, states, states], dim=-1)
        order = make(count, self.steps, kind=torch.int32)
        own = count if self.convolved else 1
        return ScanCall(
            u=make(batch, own, self.tokens, dim),
            delta=low,
            delta_weight=parameter(self.rank),
            A=parameter(states),
            B=B,
            C=C,
            D=parameter(),
            z=make(batch, self.tokens, 2 * dim)[..., dim:] if self.convolved else None,
            delta_bias=parameter(),
            delta_softplus=True,
            read_order=None if self.convolved else order,
            write_order=order,
            lengths=(self.steps,) * count,
            steps=self.steps,
            image_length=self.tokens,
        )

    def conv_call(
        self,
        batch: int,
        dtype: torch.dtype,
        parameter_dtype: torch.dtype = torch.float32,
        device: str = "meta",
    ) -> ConvCall | None:
        """The convolution before the scan, where there is one."""
        if not self.convolved:
            return None
        weight = torch.empty(self.directions, self.dim, self.width, dtype=parameter_dtype, device=device)
        return ConvCall(
            x=torch.empty(batch, self.tokens, 2 * self.dim, dtype=dtype, device=device)[..., : self.dim],
            weight=weight,
            bias=weight[..., 0].contiguous(),
            read_order=torch.empty(self.directions, self.steps, dtype=torch.int32, device=device),
            lengths=(self.steps,) * self.directions,
            steps=self.steps,
        )

    def merge_tensors(
        self, channel: bool, gates: bool, batch: int, dtype: torch.dtype, device: str = "meta"
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Uninitialised branches, channel factors and float32 gates, as a merge under autocast gets them."""
        count = self.directions
        return (
            torch.empty(batch, count, self.tokens, self.dim, dtype=dtype, device=device),
            torch.empty(batch, count, self.dim, dtype=dtype, device=device) if channel else None,
            torch.empty(count, device=device) if gates else None,
        )


PLAIN, ATTENDED, SUPERNET = (False, False), (True, False), (True, True)

PUBLISHED_SIZES = (
    LayerSize("localvim_tiny", 4, 196, 196, 384, 12, True),
    LayerSize("localvim_tiny_midcls", 4, 197, 197, 384, 12, True),
    LayerSize("localvim_small", 4, 196, 196, 768, 24, True),
    LayerSize("localvim_tiny_search", 8, 196, 196, 256, 8, True, merges=(SUPERNET,)),
    LayerSize("vim_tiny", 2, 197, 197, 384, 12, True, merges=(PLAIN,)),
    LayerSize("vim_small", 2, 197, 197, 768, 24, True, merges=(PLAIN,)),
    LayerSize("localvmamba stage 1", 4, 3136, 3136, 192, 6, False, merges=(ATTENDED, PLAIN)),
    LayerSize("localvmamba stage 2", 4, 784, 784, 384, 12, False, merges=(ATTENDED, PLAIN)),
    LayerSize("localvmamba stage 3", 4, 196, 196, 768, 24, False, merges=(ATTENDED, PLAIN)),
    LayerSize("localvmamba stage 4", 4, 49, 49, 1536, 48, False, merges=(ATTENDED, PLAIN)),
    LayerSize("localvmamba stage 4, w2", 4, 49, 64, 1536, 48, False, merges=(ATTENDED, PLAIN)),
    LayerSize("localvmamba_search stage 1", 8, 3136, 3136, 64, 2, False, merges=(SUPERNET,)),
    LayerSize("localvmamba_search stage 2", 8, 784, 784, 128, 4, False, merges=(SUPERNET,)),
    LayerSize("localvmamba_search stage 3", 8, 196, 196, 256, 8, False, merges=(SUPERNET,)),
    LayerSize("localvmamba_search stage 4", 8, 49, 64, 512, 16, False, merges=(SUPERNET,)),
)
