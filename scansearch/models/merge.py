"""How the branches of a mixer, one per scan direction, become one: attention, gates, sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.fx
import torch.nn.functional as F
from scansearch_kernels import branch_means, branch_sum
from torch import Tensor, nn

from scansearch.errors import InputError

BranchAttentionKind = Literal["none", "channel", "channel+spatial"]
MergeKind = Literal["sum", "mean"]

EPSILON = 1e-5
for _name in ("branch_means", "branch_sum"):
    torch.fx.wrap(_name)  # a symbolic trace calls them, and does not look inside


@dataclass(frozen=True)
class LayerGates:
    """The gates of one layer in one step.

    Attributes:
        values: [len(active)], the gate of each active branch, in the order of ``active``.
        active: indices of the branches that are computed; all others are skipped, forward and backward.
    """

    values: Tensor
    active: tuple[int, ...]


def check_choice(name: str, value: str, kind: object) -> None:
    """Raise an InputError with the switch and its choices unless ``value`` is one of the literal's."""
    allowed = get_args(kind)
    if value not in allowed:
        raise InputError(f"{name} {value!r} is unknown: use {' or '.join(map(repr, allowed))}")


class BranchAttention(nn.Module):
    """The gate that a branch computes from itself; one set of weights serves all branches of a layer.

    Per channel: sigmoid(W2 gelu(W1 mean over tokens(LayerNorm(y)))). That is all the released LocalMamba has.
    With ``spatial`` it also multiplies a factor per token, made from the token's own reduction and the global
    one: the SCAttn module of the paper (LocalMamba, arXiv 2403.09338), which is LightViT's bi-dimensional
    attention (arXiv 2207.05557).

    Raises:
        InputError: fewer than 8 channels, which would leave nothing after the reduction by 8.
    """

    def __init__(self, dim: int, *, spatial: bool, reduction: int = 8) -> None:
        super().__init__()
        reduced = dim // reduction
        if reduced < 1:
            raise InputError(f"branch attention needs at least {reduction} inner channels, not {dim}")
        self.norm = nn.LayerNorm(dim, eps=EPSILON)
        self.global_reduce = nn.Linear(dim, reduced)
        self.channel_select = nn.Linear(reduced, dim)
        self.local_reduce = nn.Linear(dim, reduced) if spatial else None
        self.spatial_select = nn.Linear(2 * reduced, 1) if spatial else None

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor | None]:
        """Factors of ``y`` [batch, directions, length, dim].

        Returns:
            [batch, directions, dim] per channel, and [batch, directions, length] per token or None.
        """
        # The LayerNorm's own scale and shift commute with the mean over tokens.
        means = branch_means(y) * self.norm.weight + self.norm.bias
        pooled = F.gelu(self.global_reduce(means))
        channel = torch.sigmoid(self.channel_select(pooled))
        if self.local_reduce is None or self.spatial_select is None:
            return channel, None
        local = F.gelu(self.local_reduce(self.norm(y)))
        both = torch.cat([local, pooled.unsqueeze(2).expand_as(local)], dim=-1)
        return channel, torch.sigmoid(self.spatial_select(both)).squeeze(-1)


class BranchMerge(nn.Module):
    """Branches [batch, directions, length, dim] -> [batch, length, dim].

    A derived model adds its branches (``merge="sum"``, or their mean). A supernet (``weighted=True``) owns
    one architecture parameter per branch, ``alpha`` [directions], and adds gate * LayerNorm(branch) with a
    LayerNorm that has no parameters, so that the gates compare branches of one scale (LocalMamba, arXiv
    2403.09338); without gates from outside they are softmax(alpha). Gates take
    the place of ``merge``, which then has no part in it.

    Raises:
        InputError: an unknown ``attention`` or ``merge``.
    """

    def __init__(
        self,
        dim: int,
        directions: int,
        *,
        attention: BranchAttentionKind,
        merge: MergeKind,
        weighted: bool,
    ) -> None:
        super().__init__()
        check_choice("branch_attention", attention, BranchAttentionKind)
        check_choice("merge", merge, MergeKind)
        self.dim, self.directions, self.merge, self.weighted = dim, directions, merge, weighted
        self.attention_kind = attention
        self.attention = (
            None if attention == "none" else BranchAttention(dim, spatial=attention == "channel+spatial")
        )
        if weighted:
            self.alpha = nn.Parameter(1e-3 * torch.randn(directions))

    def forward(self, y: Tensor, gates: Tensor | None = None) -> Tensor:
        """Merge ``y``; ``gates`` [branches in y] replaces softmax(alpha) and needs ``weighted``."""
        channel, spatial = (None, None) if self.attention is None else self.attention(y)
        if spatial is not None:
            y = y * spatial.unsqueeze(-1)
        if self.weighted:
            return branch_sum(y, channel, torch.softmax(self.alpha, dim=0) if gates is None else gates)
        total = branch_sum(y, channel)
        return total if self.merge == "sum" else total / y.shape[1]


def check_gates(gates: LayerGates, directions: int) -> None:
    """Raise an InputError naming what is wrong with ``gates`` for a layer of ``directions`` branches."""
    active = gates.active
    if not active:
        raise InputError("gates without an active branch: at least one is needed")
    if len(set(active)) != len(active) or not all(0 <= index < directions for index in active):
        raise InputError(f"active branches {active} must be distinct and lie in 0..{directions - 1}")
    if gates.values.shape != (len(active),):
        raise InputError(
            f"gate values {tuple(gates.values.shape)} do not match {len(active)} active branches"
        )


def check_layer_gates(
    gates: Sequence[LayerGates] | None, layers: int, weighted: bool
) -> Sequence[LayerGates | None]:
    """One entry per layer, or an InputError: gates need a weighted model and one entry for every layer.

    torch.fx puts a symbol in the place of every argument: a model is traced without gates.
    """
    if gates is None or isinstance(gates, torch.fx.Proxy):
        return [None] * layers
    if not weighted:
        raise InputError("gates need a supernet: build the model with weighted=True")
    if len(gates) != layers:
        raise InputError(f"gates for {len(gates)} layers given, the model has {layers}")
    return list(gates)
