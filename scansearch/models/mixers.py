"""The two state-space mixers: along each order (LocalVim) and after a 2-D convolution (LocalVMamba)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.fx
import torch.nn.functional as F
from scansearch_kernels import causal_conv, selective_scan
from torch import Tensor, nn

from scansearch.directions import Padding, check_directions
from scansearch.errors import InputError
from scansearch.models.constants import constant
from scansearch.models.merge import (
    BranchAttentionKind,
    BranchMerge,
    LayerGates,
    MergeKind,
    check_choice,
    check_gates,
)
from scansearch.models.orders import scan_orders

TimeStepInit = Literal["mamba", "released"]
for _name in ("causal_conv", "scan_orders", "selective_scan"):
    torch.fx.wrap(_name)  # a symbolic trace calls them, and does not look inside


class DirectionalSSM(nn.Module):
    """What both mixers share: the parameters of one selective scan per direction, stacked [directions, ...].

    Args:
        directions: names of the scan directions, one branch each.
        dim: inner channels of a branch.
        states: size of the state of one channel.
        dt_rank: rank of the projection that makes the time steps.

    Raises:
        InputError: an unknown or repeated direction, an unknown padding, or a size below 1.
    """

    def __init__(
        self,
        directions: Sequence[str],
        *,
        dim: int,
        states: int,
        dt_rank: int,
        window_padding: Padding,
        branch_attention: BranchAttentionKind,
        merge: MergeKind,
        weighted: bool,
    ) -> None:
        super().__init__()
        check_choice("window_padding", window_padding, Padding)
        for name, size in (("inner dim", dim), ("states", states), ("dt_rank", dt_rank)):
            if size < 1:
                raise InputError(f"{name} must be at least 1, not {size}")
        self.directions = check_directions(directions, where="mixer")
        count = len(self.directions)
        self.in_proj: nn.Linear
        self.out_proj: nn.Linear
        self.dim, self.states, self.dt_rank = dim, states, dt_rank
        self.window_padding = window_padding
        self.weighted = weighted
        self.x_proj_weight = nn.Parameter(torch.empty(count, dt_rank + 2 * states, dim))
        self.dt_weight = nn.Parameter(torch.empty(count, dim, dt_rank))
        self.dt_bias = nn.Parameter(torch.empty(count, dim))
        self.A_log = nn.Parameter(torch.empty(count, dim, states))
        self.D = nn.Parameter(torch.empty(count, dim))
        self.merge = BranchMerge(dim, count, attention=branch_attention, merge=merge, weighted=weighted)

    @property
    def alpha(self) -> nn.Parameter:
        """Architecture parameters [directions] of a weighted mixer."""
        return self.merge.alpha

    def branch_parameters(self) -> list[nn.Parameter]:
        """The parameters whose first axis is the direction, ``alpha`` not among them."""
        return [self.x_proj_weight, self.dt_weight, self.dt_bias, self.A_log, self.D]

    def select(self, gates: LayerGates | None) -> tuple[tuple[str, ...], Tensor | None]:
        """The directions that are computed, and their indices (None: all of them, in order)."""
        if gates is None:
            return self.directions, None
        check_gates(gates, len(self.directions))
        if gates.active == tuple(range(len(self.directions))):
            return self.directions, None
        names = tuple(self.directions[index] for index in gates.active)
        (index,) = constant(_branch_indices, *gates.active, self.D.device)
        return names, index

    def split(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Low-rank time step, B and C from the projection of the tokens."""
        low, b, c = projected.split([self.dt_rank, self.states, self.states], dim=-1)
        return low, b, c

    def init_scan(self, dt_init: TimeStepInit) -> None:
        """Initialise the scan's parameters in place.

        ``mamba``: uniform weights within rank ** -0.5 and biases such that softplus(bias) is log-uniform in
        [0.001, 0.1] (Mamba, arXiv 2312.00752, section 3.6). ``released``: truncated normal weights of
        deviation 0.02 and biases 0, hence time steps near 0.69: what the released LocalVim starts from.
        """
        check_choice("dt_init", dt_init, TimeStepInit)
        with torch.no_grad():
            steps = torch.arange(1, self.states + 1, dtype=self.A_log.dtype, device=self.A_log.device)
            self.A_log.copy_(steps.log().expand_as(self.A_log))
            self.D.fill_(1.0)
            if dt_init == "released":
                nn.init.trunc_normal_(self.dt_weight, std=0.02)
                self.dt_bias.zero_()
                return
            bound = self.dt_rank**-0.5
            self.dt_weight.uniform_(-bound, bound)
            low, high = math.log(1e-3), math.log(1e-1)
            step = torch.rand_like(self.dt_bias).mul_(high - low).add_(low).exp_().clamp_(min=1e-4)
            self.dt_bias.copy_(step + torch.log(-torch.expm1(-step)))


def _branch_indices(*key: Any) -> tuple[Tensor]:
    *active, device = key
    return (torch.tensor(active, device=device),)


def _pick(parameter: Tensor, index: Tensor | None) -> Tensor:
    return parameter if index is None else parameter.index_select(0, index)


class LocalVimMixer(DirectionalSSM):
    """Mamba block with one causal convolution, projection and scan per direction (Vim, LocalMamba).

    Maps [batch, length, model_dim] to the same shape, where length = height * width, plus 1 with a class
    token at the middle. No permuted copy of the tokens is made: convolution and scan walk the orders by
    index.
    """

    def __init__(
        self,
        model_dim: int,
        directions: Sequence[str],
        *,
        states: int = 16,
        expand: int = 2,
        conv_width: int = 4,
        dt_rank: int | None = None,
        window_padding: Padding = "skip",
        branch_attention: BranchAttentionKind = "channel",
        merge: MergeKind = "sum",
        weighted: bool = False,
        class_token: bool = False,
        dt_init: TimeStepInit = "mamba",
        depth: int = 1,
    ) -> None:
        dim = expand * model_dim
        super().__init__(
            directions,
            dim=dim,
            states=states,
            dt_rank=math.ceil(model_dim / 16) if dt_rank is None else dt_rank,
            window_padding=window_padding,
            branch_attention=branch_attention,
            merge=merge,
            weighted=weighted,
        )
        if conv_width < 1:
            raise InputError(f"conv_width must be at least 1, not {conv_width}")
        count = len(self.directions)
        self.class_token = class_token
        self.in_proj = nn.Linear(model_dim, 2 * dim, bias=False)
        self.conv_weight = nn.Parameter(torch.empty(count, dim, conv_width))
        self.conv_bias = nn.Parameter(torch.empty(count, dim))
        self.out_proj = nn.Linear(dim, model_dim, bias=False)
        self.init_weights(dt_init, depth)

    def init_weights(self, dt_init: TimeStepInit, depth: int) -> None:
        """Initialise in place as the released code does, ``dt_init`` aside; ``depth`` scales the output."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.x_proj_weight, std=0.02)
        nn.init.kaiming_uniform_(self.out_proj.weight, a=math.sqrt(5))
        with torch.no_grad():
            self.out_proj.weight.div_(math.sqrt(depth))
        bound = self.conv_weight.shape[-1] ** -0.5
        nn.init.uniform_(self.conv_weight, -bound, bound)
        nn.init.uniform_(self.conv_bias, -bound, bound)
        self.init_scan(dt_init)

    def branch_parameters(self) -> list[nn.Parameter]:
        return [self.conv_weight, self.conv_bias, *super().branch_parameters()]

    def forward(self, x: Tensor, height: int, width: int, gates: LayerGates | None = None) -> Tensor:
        """Mix ``x`` [batch, length, model_dim] on a grid of ``height`` x ``width`` tokens."""
        names, index = self.select(gates)
        orders, lengths = scan_orders(
            names,
            height,
            width,
            padding=self.window_padding,
            class_token=self.class_token,
            device=x.device,
        )
        x, z = self.in_proj(x).chunk(2, dim=-1)
        u = causal_conv(
            x,
            _pick(self.conv_weight, index),
            _pick(self.conv_bias, index),
            read_order=orders,
            lengths=lengths,
        )
        low, b, c = self.split(torch.matmul(u, _pick(self.x_proj_weight, index).transpose(1, 2)))
        y = selective_scan(
            u,
            (low, _pick(self.dt_weight, index)),
            -torch.exp(_pick(self.A_log, index)),
            b,
            c,
            _pick(self.D, index),
            z=z,
            delta_bias=_pick(self.dt_bias, index),
            write_order=orders,
            lengths=lengths,
        )
        return self.out_proj(self.merge(y, None if gates is None else gates.values))


class LocalVMambaMixer(DirectionalSSM):
    """VMamba's SS2D block over any directions (VMamba, arXiv 2401.10166; LocalMamba, arXiv 2403.09338).

    Maps [batch, height, width, model_dim] to the same shape: depthwise convolution, one scan per direction
    over the same tokens, merge, LayerNorm, gate.
    """

    def __init__(
        self,
        model_dim: int,
        directions: Sequence[str],
        *,
        states: int = 16,
        ssm_ratio: float = 2.0,
        conv_width: int = 3,
        dt_rank: int | None = None,
        window_padding: Padding = "skip",
        branch_attention: BranchAttentionKind = "channel",
        merge: MergeKind = "sum",
        weighted: bool = False,
        dt_init: TimeStepInit = "mamba",
    ) -> None:
        dim = int(ssm_ratio * model_dim)
        super().__init__(
            directions,
            dim=dim,
            states=states,
            dt_rank=math.ceil(model_dim / 16) if dt_rank is None else dt_rank,
            window_padding=window_padding,
            branch_attention=branch_attention,
            merge=merge,
            weighted=weighted,
        )
        if conv_width < 1 or conv_width % 2 == 0:
            raise InputError(f"conv_width must be odd and at least 1, not {conv_width}")
        self.in_proj = nn.Linear(model_dim, 2 * dim, bias=False)
        self.conv2d = nn.Conv2d(dim, dim, conv_width, padding=conv_width // 2, groups=dim)
        self.out_norm = nn.LayerNorm(dim, eps=1e-5)
        self.out_proj = nn.Linear(dim, model_dim, bias=False)
        self.init_weights(dt_init)

    def init_weights(self, dt_init: TimeStepInit) -> None:
        """Initialise in place as the released code does, which keeps Mamba's time steps for every ``dt_init``."""
        check_choice("dt_init", dt_init, TimeStepInit)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        bound = self.dim**-0.5
        nn.init.uniform_(self.x_proj_weight, -bound, bound)
        self.init_scan("mamba")

    def forward(self, x: Tensor, gates: LayerGates | None = None) -> Tensor:
        """Mix ``x`` [batch, height, width, model_dim]."""
        height, width = x.shape[1:3]
        names, index = self.select(gates)
        orders, lengths = scan_orders(
            names, height, width, padding=self.window_padding, class_token=False, device=x.device
        )
        x, z = self.in_proj(x).chunk(2, dim=-1)
        x = F.silu(self.conv2d(x.permute(0, 3, 1, 2))).permute(0, 2, 3, 1).flatten(1, 2)
        weight = _pick(self.x_proj_weight, index)
        projected = F.linear(x, weight.flatten(0, 1)).unflatten(-1, weight.shape[:2]).transpose(1, 2)
        low, b, c = self.split(projected)
        y = selective_scan(
            x.unsqueeze(1),
            (low, _pick(self.dt_weight, index)),
            -torch.exp(_pick(self.A_log, index)),
            b,
            c,
            _pick(self.D, index),
            delta_bias=_pick(self.dt_bias, index),
            read_order=orders,
            lengths=lengths,
            image_length=height * width,
        )
        y = self.merge(y, None if gates is None else gates.values)
        y = self.out_norm(y).unflatten(1, (height, width)) * F.silu(z)
        return self.out_proj(y)
