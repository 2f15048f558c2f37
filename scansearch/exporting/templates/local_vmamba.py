"""LocalVMamba in plain torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scansearch.exporting.templates.shared import (
    EPSILON,
    DirectionalSSM,
    DropPath,
    linear_head,
    rising_rates,
    rows_in_order,
    sides_of,
)

GENOTYPE: dict[str, Any] = {
    "family": "local_vmamba",
    "hash": "",
    "layers": [["h", "h_flip"], ["v", "v_flip"]],
}
ARGUMENTS: dict[str, Any] = {"dims": [16, 32], "depths": [1, 1]}


class LocalVMambaMixer(DirectionalSSM):
    """VMamba's SS2D block over any directions (VMamba, arXiv 2401.10166; LocalMamba, arXiv 2403.09338)."""

    def __init__(
        self,
        model_dim: int,
        directions: Sequence[str],
        *,
        states: int,
        ssm_ratio: float,
        conv_width: int,
        dt_rank: int | None,
        **switches: str,
    ) -> None:
        dim = int(ssm_ratio * model_dim)
        rank = math.ceil(model_dim / 16) if dt_rank is None else dt_rank
        super().__init__(directions, dim=dim, states=states, dt_rank=rank, **switches)
        self.in_proj = nn.Linear(model_dim, 2 * dim, bias=False)
        self.conv2d = nn.Conv2d(dim, dim, conv_width, padding=conv_width // 2, groups=dim)
        self.out_norm = nn.LayerNorm(dim, eps=EPSILON)
        self.out_proj = nn.Linear(dim, model_dim, bias=False)
        self.init_linear()
        nn.init.uniform_(self.x_proj_weight, -(dim**-0.5), dim**-0.5)
        self.init_scan("mamba")

    def forward(self, x: Tensor) -> Tensor:
        """Mix ``x`` [batch, height, width, model_dim]."""
        height, width = x.shape[1:3]
        read, back = self.tables(height, width, False, x.device)
        x, z = self.in_proj(x).chunk(2, dim=-1)
        x = F.silu(self.conv2d(x.permute(0, 3, 1, 2))).permute(0, 2, 3, 1).flatten(1, 2)
        y = self.merge(self.scan(rows_in_order(x, read), back))
        return self.out_proj(self.out_norm(y).unflatten(1, (height, width)) * F.silu(z))


class LocalVMambaBlock(nn.Module):
    """x + mixer(norm(x)) over [batch, height, width, dim]."""

    def __init__(self, mixer: LocalVMambaMixer, dim: int, drop_path: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=EPSILON)
        self.mixer = mixer
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path(self.mixer(self.norm(x)))


class PatchStem(nn.Module):
    """Images [batch, channels, height, width] -> normalised patches [batch, rows, columns, dim]."""

    def __init__(self, in_chans: int, dim: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, patch_size, stride=patch_size)
        self.norm = nn.LayerNorm(dim, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x).permute(0, 2, 3, 1))


class PatchMerging(nn.Module):
    """Halve the grid (odd sides are padded with zeros) and change the width (Swin, arXiv 2103.14030)."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim, eps=EPSILON)
        self.reduction = nn.Linear(4 * dim, out_dim, bias=False)
        nn.init.trunc_normal_(self.reduction.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))


class Stage(nn.Module):
    """The blocks of one resolution, and the merging to the next (None after the last)."""

    def __init__(self, blocks: Sequence[LocalVMambaBlock], downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(x)
        return x if self.downsample is None else self.downsample(x)


class LocalVMamba(nn.Module):
    """LocalVMamba: images [batch, in_chans, height, width] -> logits [batch, num_classes].

    ``img_size`` is only checked; ``dt_init`` changes nothing: the released LocalVMamba starts from Mamba's.
    """

    def __init__(
        self,
        directions: Sequence[Sequence[str]],
        *,
        dims: Sequence[int] = (96, 192, 384, 768),
        depths: Sequence[int] = (2, 2, 9, 2),
        img_size: int | Sequence[int] = 224,
        patch_size: int = 4,
        in_chans: int = 3,
        num_classes: int = 1000,
        states: int = 16,
        ssm_ratio: float = 2.0,
        conv_width: int = 3,
        dt_rank: int | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        global_pool: str = "avg",
        window_padding: str = "skip",
        branch_attention: str = "channel",
        dt_init: str = "mamba",
        merge: str = "sum",
    ) -> None:
        super().__init__()
        if dt_init not in ("mamba", "released"):
            raise ValueError(f"dt_init {dt_init!r} is unknown: use 'mamba' or 'released'")
        if min(sides_of(img_size)) < patch_size:
            raise ValueError(f"img_size {img_size} must be at least one patch of {patch_size} pixels a side")
        self.global_pool = global_pool
        self.patch_embed = PatchStem(in_chans, dims[0], patch_size)
        rates = iter(rising_rates(drop_path_rate, sum(depths)))
        layers = iter(directions)
        self.stages = nn.ModuleList()
        for index, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
            blocks = []
            for _ in range(depth):
                mixer = LocalVMambaMixer(
                    dim,
                    next(layers),
                    states=states,
                    ssm_ratio=ssm_ratio,
                    conv_width=conv_width,
                    dt_rank=dt_rank,
                    window_padding=window_padding,
                    branch_attention=branch_attention,
                    merge=merge,
                )
                blocks.append(LocalVMambaBlock(mixer, dim, next(rates)))
            following = dims[index + 1] if index + 1 < len(dims) else None
            self.stages.append(Stage(blocks, None if following is None else PatchMerging(dim, following)))
        self.norm = nn.LayerNorm(dims[-1], eps=EPSILON)
        self.head_drop = nn.Dropout(drop_rate)
        self.head = linear_head(dims[-1], num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Normalised tokens [batch, rows, columns, dims[-1]] of the last stage."""
        x = self.patch_embed(x)
        for stage in self.stages:
            x = stage(x)
        return self.norm(x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.forward_features(x)
        return self.head(self.head_drop(x.mean(dim=(1, 2)) if self.global_pool == "avg" else x))


def build(**overrides: Any) -> LocalVMamba:
    """The model of this genotype with fresh weights; ``overrides`` are arguments of LocalVMamba."""
    return LocalVMamba(GENOTYPE["layers"], **(ARGUMENTS | overrides))
