"""LocalVim in plain torch."""

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
    kept,
    linear_head,
    rising_rates,
    rows_in_order,
    sides_of,
)

GENOTYPE: dict[str, Any] = {"family": "local_vim", "hash": "", "layers": [["h", "h_flip"], ["v", "v_flip"]]}
ARGUMENTS: dict[str, Any] = {}
PICTURES: dict[str, Any] = {}


class LocalVimMixer(DirectionalSSM):
    """Mamba block with one causal convolution, projection and scan per direction (arXiv 2403.09338)."""

    def __init__(
        self,
        model_dim: int,
        directions: Sequence[str],
        *,
        states: int,
        expand: int,
        conv_width: int,
        dt_rank: int | None,
        dt_init: str,
        class_token: bool,
        depth: int,
        **switches: str,
    ) -> None:
        dim = expand * model_dim
        rank = math.ceil(model_dim / 16) if dt_rank is None else dt_rank
        super().__init__(directions, dim=dim, states=states, dt_rank=rank, **switches)
        self.class_token = class_token
        self.in_proj = nn.Linear(model_dim, 2 * dim, bias=False)
        self.conv_weight = nn.Parameter(torch.empty(len(self.directions), dim, conv_width))
        self.conv_bias = nn.Parameter(torch.empty(len(self.directions), dim))
        self.out_proj = nn.Linear(dim, model_dim, bias=False)
        self.init_linear()
        nn.init.trunc_normal_(self.x_proj_weight, std=0.02)
        nn.init.kaiming_uniform_(self.out_proj.weight, a=math.sqrt(5))
        with torch.no_grad():
            self.out_proj.weight.div_(math.sqrt(depth))
        nn.init.uniform_(self.conv_weight, -(conv_width**-0.5), conv_width**-0.5)
        nn.init.uniform_(self.conv_bias, -(conv_width**-0.5), conv_width**-0.5)
        self.init_scan(dt_init)

    def convolve(self, rows: Tensor) -> Tensor:
        """SiLU of the causal depthwise convolution of ``rows`` [batch, directions, steps, dim]."""
        steps, taps = rows.shape[2], self.conv_weight.shape[-1]
        padded = F.pad(rows, (0, 0, taps - 1, 0))
        y = self.conv_bias.unsqueeze(1)
        for tap in range(taps):
            y = y + self.conv_weight[:, None, :, tap] * padded.narrow(2, tap, steps)
        return F.silu(y)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """Mix ``x`` [batch, length, model_dim] on a grid of ``height`` x ``width`` tokens."""
        read, back = self.tables(height, width, self.class_token, x.device)
        x, z = self.in_proj(x).chunk(2, dim=-1)
        y = self.scan(self.convolve(rows_in_order(x, read)), back)
        return self.out_proj(self.merge(y * F.silu(z).unsqueeze(1)))


class LocalVimLayer(nn.Module):
    """Add, norm, mix: takes the last mixer's output and the residual stream, returns both anew."""

    def __init__(self, mixer: LocalVimMixer, dim: int, norm: str, drop_path: float) -> None:
        super().__init__()
        self.drop_path = DropPath(drop_path)
        self.norm = token_norm(norm, dim)
        self.mixer = mixer

    def forward(
        self,
        hidden: Tensor,
        residual: Tensor,
        grid: tuple[int, int],
        tables: tuple[Tensor, ...],
        rope_residual: bool,
    ) -> tuple[Tensor, Tensor]:
        residual = rotate(residual, tables) if rope_residual else residual
        residual = residual + rotate(self.drop_path(hidden), tables)
        return self.mixer(self.norm(residual), *grid), residual


class PatchEmbed(nn.Module):
    """Images -> patches [batch, rows, columns, dim]; sides are filled with zeros up to whole patches."""

    def __init__(self, in_chans: int, dim: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        size = self.proj.stride[0]
        x = F.pad(x, (0, -x.shape[3] % size, 0, -x.shape[2] % size))
        return self.proj(x).permute(0, 2, 3, 1)


class LocalVim(nn.Module):
    """LocalVim: images [batch, in_chans, height, width] -> logits [batch, num_classes]."""

    def __init__(
        self,
        directions: Sequence[Sequence[str]],
        *,
        img_size: int | Sequence[int] = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 192,
        states: int = 16,
        expand: int = 2,
        conv_width: int = 4,
        dt_rank: int | None = None,
        drop_rate: float = 0.0,
        pos_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        global_pool: str | None = None,
        class_token: str = "none",
        position_embedding: bool = True,
        rope: bool = True,
        rope_residual: bool = True,
        rope_resize: str = "angles",
        norm: str = "rms",
        window_padding: str = "skip",
        branch_attention: str = "channel",
        dt_init: str = "mamba",
        merge: str = "sum",
    ) -> None:
        super().__init__()
        has_token = class_token == "middle"
        self.global_pool = ("token" if has_token else "avg") if global_pool is None else global_pool
        self.rope, self.rope_residual, self.rope_resize = rope, rope_residual, rope_resize
        height, width = sides_of(img_size)
        self.grid_size = (height // patch_size, width // patch_size)
        tokens = self.grid_size[0] * self.grid_size[1] + has_token
        self.patch_embed = PatchEmbed(in_chans, embed_dim, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim)) if has_token else None
        self.pos_embed = nn.Parameter(torch.empty(1, tokens, embed_dim)) if position_embedding else None
        if self.pos_embed is not None:
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.pos_drop = nn.Dropout(pos_drop_rate)
        # A layer drops the output of the layer before it, so rates come one layer late.
        rates = [0.0, *rising_rates(drop_path_rate, len(directions))]
        self.layers = nn.ModuleList()
        for layer, names in enumerate(directions):
            mixer = LocalVimMixer(
                embed_dim,
                names,
                states=states,
                expand=expand,
                conv_width=conv_width,
                dt_rank=dt_rank,
                dt_init=dt_init,
                class_token=has_token,
                depth=len(directions),
                window_padding=window_padding,
                branch_attention=branch_attention,
                merge=merge,
            )
            self.layers.append(LocalVimLayer(mixer, embed_dim, norm, rates[layer]))
        self.drop_path = DropPath(drop_path_rate)
        self.norm = token_norm(norm, embed_dim)
        self.head_drop = nn.Dropout(drop_rate)
        self.head = linear_head(embed_dim, num_classes)

    def position(self, grid: tuple[int, int]) -> Tensor | None:
        """The position embedding, interpolated to ``grid``."""
        table = self.pos_embed
        if table is None or grid == self.grid_size:
            return table
        if self.cls_token is None:
            return resample(table, self.grid_size, grid)
        middle, split = (table.shape[1] - 1) // 2, grid[0] * grid[1] // 2
        patches = torch.cat([table[:, :middle], table[:, middle + 1 :]], dim=1)
        patches = resample(patches, self.grid_size, grid)
        return torch.cat([patches[:, :split], table[:, middle : middle + 1], patches[:, split:]], dim=1)

    def rope_tables(self, x: Tensor, grid: tuple[int, int]) -> tuple[Tensor, ...]:
        """Cosines and sines that rotate the tokens ``x``; () without rope."""
        if not self.rope:
            return ()
        source = self.grid_size if self.rope_resize == "tables" else grid
        dim, has_token = x.shape[-1], self.cls_token is not None

        def make() -> tuple[Tensor, ...]:
            tables = [table.to(x.device, x.dtype) for table in rotations(*source, dim)]
            if source != grid:
                tables = [resample(table, source, grid) for table in tables]
            if has_token:  # the class token has no place to be rotated to
                middle = grid[0] * grid[1] // 2
                still = (torch.ones_like(tables[0][:1]), torch.zeros_like(tables[1][:1]))
                tables = [torch.cat([t[:middle], s, t[middle:]]) for t, s in zip(tables, still, strict=True)]
            return tuple(tables)

        return kept(("rope", source, grid, dim, has_token, x.device, x.dtype), make)

    def forward_features(self, x: Tensor) -> Tensor:
        """Normalised tokens [batch, length, embed_dim] of the last layer."""
        x = self.patch_embed(x)
        grid = (x.shape[1], x.shape[2])
        x = x.flatten(1, 2)
        if self.cls_token is not None:
            middle = x.shape[1] // 2
            x = torch.cat([x[:, :middle], self.cls_token.expand(x.shape[0], -1, -1), x[:, middle:]], dim=1)
        position = self.position(grid)
        hidden = self.pos_drop(x if position is None else x + position)
        tables = self.rope_tables(hidden, grid)
        residual = torch.zeros_like(hidden)
        for layer in self.layers:
            hidden, residual = layer(hidden, residual, grid, tables, self.rope_residual)
        return self.norm(residual + self.drop_path(hidden))

    def pool(self, x: Tensor) -> Tensor:
        middle = (x.shape[1] - 1) // 2
        if self.global_pool == "token":
            return x[:, middle]
        if self.global_pool == "last":
            return x[:, -1]
        if self.global_pool == "":
            return x
        if self.cls_token is not None:
            x = torch.cat([x[:, :middle], x[:, middle + 1 :]], dim=1)
        return x.mean(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.head_drop(self.pool(self.forward_features(x))))


def token_norm(kind: str, dim: int) -> nn.Module:
    return nn.RMSNorm(dim, eps=EPSILON) if kind == "rms" else nn.LayerNorm(dim, eps=EPSILON)


def rotations(height: int, width: int, dim: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines [height * width, dim / 2]; any grid spans the same 14 steps.

    Half of the channel pairs turn by the row, half by the column.
    """
    frequencies = 1.0 / (10000 ** (torch.arange(0, dim // 2, 2)[: dim // 4].float() / (dim // 2)))
    rows = torch.outer(torch.arange(height) / height * 14, frequencies)
    columns = torch.outer(torch.arange(width) / width * 14, frequencies)
    angles = torch.cat([rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)], dim=-1)
    return angles.flatten(0, 1).cos(), angles.flatten(0, 1).sin()


def rotate(x: Tensor, tables: tuple[Tensor, ...]) -> Tensor:
    """Rotate the channel pairs of ``x`` [batch, length, dim]; unchanged without tables."""
    if not tables:
        return x
    cos, sin = tables
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)


def resample(table: Tensor, source: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """Bicubic resampling of ``table`` [..., source tokens, dim] to [..., target tokens, dim]."""
    image = table.reshape(-1, *source, table.shape[-1]).permute(0, 3, 1, 2)
    image = F.interpolate(image, size=target, mode="bicubic", align_corners=False)
    return image.permute(0, 2, 3, 1).reshape(*table.shape[:-2], target[0] * target[1], table.shape[-1])


def build(**overrides: Any) -> LocalVim:
    """The model of this genotype with fresh weights; ``overrides`` are arguments of LocalVim."""
    return LocalVim(GENOTYPE["layers"], **(ARGUMENTS | overrides))
