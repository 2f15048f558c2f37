"""What both model families share: the classifier, gates, features, and what timm asks of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Proxy
from torch.utils.checkpoint import checkpoint

from scansearch.errors import InputError
from scansearch.models.mixers import DirectionalSSM

# Undecayed whatever their number of axes: stacking per direction gives biases two of them.
_UNDECAYED = ("A_log", "D", "dt_bias", "conv_bias", "alpha", "pos_embed", "cls_token")


def channel_norm(kind: str, dim: int) -> nn.Module:
    """RMSNorm ("rms") or LayerNorm ("layer") over the last axis, epsilon 1e-5.

    Raises:
        InputError: any other kind.
    """
    if kind == "rms":
        return nn.RMSNorm(dim, eps=1e-5)
    if kind == "layer":
        return nn.LayerNorm(dim, eps=1e-5)
    raise InputError(f"norm {kind!r} is unknown: use 'rms' or 'layer'")


def check_rate(name: str, rate: float) -> float:
    """``rate`` if it lies in [0, 1), else an InputError naming it."""
    if not 0.0 <= rate < 1.0:
        raise InputError(f"{name} {rate} must lie in [0, 1)")
    return float(rate)


def check_sides(img_size: int | Sequence[int], patch_size: int) -> tuple[int, int]:
    """Height and width in pixels.

    Raises:
        InputError: not one or two numbers, or less than one patch.
    """
    sides = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
    if patch_size < 1 or len(sides) != 2 or min(sides) < patch_size:
        raise InputError(f"img_size {img_size} must be at least one patch of {patch_size} pixels a side")
    return sides[0], sides[1]


def increasing_rates(last: float, count: int) -> list[float]:
    """``count`` rates that rise linearly from 0 to ``last``."""
    return [last * index / max(count - 1, 1) for index in range(count)]


def level_indices(indices: int | Sequence[int] | None, levels: int) -> tuple[int, ...]:
    """Feature levels as indices in 0..levels-1; an int n means the last n, None all of them.

    Raises:
        InputError: an index outside the model, or none at all.
    """
    if indices is None:
        return tuple(range(levels))
    requested = [levels - n for n in range(indices, 0, -1)] if isinstance(indices, int) else list(indices)
    levels_taken = tuple(index + levels if index < 0 else index for index in requested)
    if not levels_taken or not all(0 <= index < levels for index in levels_taken):
        raise InputError(f"feature indices {tuple(requested)} must lie in {-levels}..{levels - 1}")
    return levels_taken


def pool_tokens(kind: str, tokens: Tensor) -> Tensor:
    """[batch, length, dim] -> [batch, dim] by their "avg", "max", or "avgmax": the mean of both, as in timm."""
    if kind == "avg":
        return tokens.mean(dim=1)
    if kind == "max":
        return tokens.amax(dim=1)
    return 0.5 * (tokens.mean(dim=1) + tokens.amax(dim=1))


def run_layer(layer: nn.Module, *arguments: Any, checkpointing: bool) -> Any:
    """``layer(*arguments)``; with ``checkpointing`` its activations are computed again in the backward pass."""
    if checkpointing and torch.is_grad_enabled():
        return checkpoint(layer, *arguments, use_reentrant=False)
    return layer(*arguments)


def check_image(x: Tensor, in_chans: int) -> None:
    """Raise an InputError unless ``x`` is [batch, in_chans, height, width]; a symbol of torch.fx has no shape yet."""
    if not isinstance(x, Proxy) and (x.ndim != 4 or x.shape[1] != in_chans):
        raise InputError(f"images of shape {tuple(x.shape)} do not fit [batch, {in_chans}, height, width]")


def intermediates_result(
    maps: list[Tensor],
    final: Tensor | None,
    *,
    prefixes: list[Tensor] | None = None,
    as_dict: bool = False,
) -> Any:
    """What timm's ``forward_intermediates`` returns: maps, with the prefix tokens of each, and the ``final`` tokens.

    ``final`` is None where only the maps were asked for.
    """
    if as_dict:
        result: dict[str, Any] = {"image_intermediates": maps}
        if prefixes is not None:
            result["image_intermediates_prefix"] = prefixes
        return result if final is None else result | {"image_features": final}
    levels: list[Any] = maps if prefixes is None else list(zip(maps, prefixes, strict=True))
    return levels if final is None else (final, levels)


def check_no_mask(attn_mask: Tensor | None) -> None:
    """Raise an InputError for a mask: timm offers one to every backbone."""
    if attn_mask is not None:
        raise InputError("attn_mask has no meaning here: a state-space model has no attention between tokens")


class ScanBackbone(nn.Module):
    """Base of LocalVim and LocalVMamba.

    Attributes:
        num_classes, num_features, in_chans, global_pool: as in timm.
        feature_info: one entry per feature level, with num_chs, reduction (stride) and module.
        feature_norms: learned LayerNorms of the levels given as ``feature_levels``; a level without one gets
            a LayerNorm without parameters.
        weighted: whether this is a supernet, whose mixers own ``alpha``.
    """

    pools: tuple[str, ...] = ("avg", "avgmax", "max", "")

    def __init__(
        self,
        *,
        num_features: int,
        num_classes: int,
        in_chans: int,
        global_pool: str,
        drop_rate: float,
        weighted: bool,
    ) -> None:
        super().__init__()
        if num_classes < 0:
            raise InputError(f"num_classes must be at least 0, not {num_classes}")
        if in_chans < 1:
            raise InputError(f"in_chans must be at least 1, not {in_chans}")
        self.num_features = self.head_hidden_size = num_features
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.weighted = weighted
        self.grad_checkpointing = False
        self.global_pool = self._check_pool(global_pool)
        self.head_drop = nn.Dropout(check_rate("drop_rate", drop_rate))
        self.feature_info: list[dict[str, Any]] = []
        self.feature_norms = nn.ModuleDict()
        self.norm: nn.Module
        self.head: nn.Module
        self.patch_size: int
        self.default_cfg: dict[str, Any]  # timm's

    def _check_pool(self, pool: str) -> str:
        if pool not in self.pools:
            raise InputError(f"global_pool {pool!r} is unknown: use {' or '.join(map(repr, self.pools))}")
        return pool

    def _make_head(self) -> nn.Module:
        if self.num_classes == 0:
            return nn.Identity()
        head = nn.Linear(self.num_features, self.num_classes)
        nn.init.trunc_normal_(head.weight, std=0.02)
        nn.init.zeros_(head.bias)
        return head

    def _add_feature_norms(self, levels: Sequence[int]) -> None:
        for level in level_indices(levels, len(self.feature_info)) if levels else ():
            self.feature_norms[str(level)] = nn.LayerNorm(self.feature_info[level]["num_chs"], eps=1e-5)

    def _normed_feature(self, x: Tensor, level: int) -> Tensor:
        if str(level) in self.feature_norms:
            return self.feature_norms[str(level)](x)
        return F.layer_norm(x, x.shape[-1:], eps=1e-5)

    @property
    def mixers(self) -> list[DirectionalSSM]:
        """The state-space mixers in layer order."""
        return [module for module in self.modules() if isinstance(module, DirectionalSSM)]

    @property
    def directions(self) -> tuple[tuple[str, ...], ...]:
        """The scan directions of every layer."""
        return tuple(mixer.directions for mixer in self.mixers)

    def mixer_grids(self, height: int, width: int) -> list[tuple[int, int]]:
        """Rows and columns of tokens that each mixer scans, for images of ``height`` x ``width`` pixels."""
        raise NotImplementedError

    def set_input_size(
        self, img_size: int | tuple[int, int] | None = None, patch_size: int | None = None
    ) -> None:
        """Make this a model for images of ``img_size``, as if it were built for them; any size can be fed anyway.

        Raises:
            InputError: an image smaller than a patch, or another ``patch_size`` than the model's.
        """
        if patch_size is not None and patch_size != self.patch_size:
            raise InputError(
                f"patch_size {patch_size}: the patches of a built model stay {self.patch_size} pixels wide"
            )
        if img_size is not None:
            self._set_grid(check_sides(img_size, self.patch_size))

    def _set_grid(self, sides: tuple[int, int]) -> None:
        raise NotImplementedError

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a fresh one of ``num_classes`` (0: none), and the pooling if given."""
        if global_pool is not None:
            self.global_pool = self._check_pool(global_pool)
        self.num_classes = num_classes
        reference = next(self.parameters())
        self.head = self._make_head().to(device=reference.device, dtype=reference.dtype)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute every layer in the backward pass instead of keeping its activations."""
        self.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that should not decay: A_log, D, stacked biases, embeddings and alphas."""
        return {name for name, _ in self.named_parameters() if name.rpartition(".")[2] in _UNDECAYED}

    def pool(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool normalised features, then classify unless ``pre_logits``."""
        x = self.head_drop(self.pool(x))
        return x if pre_logits else self.head(x)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what the feature levels ``indices`` do not need; returns them, all counted from 0."""
        take = level_indices(indices, len(self.feature_info))
        self._prune_layers(max(take))
        if prune_norm:
            self.norm = nn.Identity()
        if prune_head:
            self.reset_classifier(0, "")
        return list(take)

    def _prune_layers(self, last: int) -> None:
        raise NotImplementedError
