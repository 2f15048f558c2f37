"""LocalVim: a plain state-space backbone (Vim, arXiv 2401.09417) with scan directions chosen per layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.fx
from timm.layers import DropPath, PatchEmbed
from torch import Tensor, nn

from scansearch.directions import Padding
from scansearch.errors import InputError
from scansearch.models.backbone import (
    ScanBackbone,
    channel_norm,
    check_image,
    check_no_mask,
    check_rate,
    check_sides,
    increasing_rates,
    intermediates_result,
    level_indices,
    pool_tokens,
    run_layer,
)
from scansearch.models.merge import (
    BranchAttentionKind,
    LayerGates,
    MergeKind,
    check_choice,
    check_layer_gates,
)
from scansearch.models.mixers import LocalVimMixer, TimeStepInit
from scansearch.models.orders import middle_position
from scansearch.models.pyramid import SCALES, WIDTHS, SimplePyramid
from scansearch.models.rope import RopeResize, grid_rope, resize_positions, rotate

ClassToken = Literal["none", "middle"]
NormKind = Literal["rms", "layer"]
FeatureKind = Literal["residual", "released"]
Tables = tuple[Tensor, Tensor]
for _name in ("grid_rope", "resize_positions"):
    torch.fx.wrap(_name)  # a symbolic trace calls them, and does not look inside


class LocalVimLayer(nn.Module):
    """Add, norm, mix: takes the last mixer's output and the residual stream, returns both anew."""

    def __init__(self, mixer: LocalVimMixer, dim: int, norm: NormKind, drop_path: float) -> None:
        super().__init__()
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.norm = channel_norm(norm, dim)
        self.mixer = mixer

    def forward(
        self,
        hidden: Tensor,
        residual: Tensor | None,
        grid: tuple[int, int],
        rope: Tables | None,
        rope_residual: bool,
        gates: LayerGates | None,
    ) -> tuple[Tensor, Tensor]:
        if residual is None:
            residual = hidden if rope is None else rotate(hidden, rope)
        elif rope is None:
            residual = residual + self.drop_path(hidden)
        elif rope_residual:  # a rotation of the sum is the sum of the rotations
            residual = rotate(residual + self.drop_path(hidden), rope)
        else:
            residual = residual + rotate(self.drop_path(hidden), rope)
        return self.mixer(self.norm(residual), *grid, gates), residual


class LocalVim(ScanBackbone):
    """LocalVim (LocalMamba, arXiv 2403.09338), and Vim as the special case of ``h`` and ``h_flip``.

    Images [batch, in_chans, height, width] of any size give logits [batch, num_classes]; sides are padded
    with zeros to a multiple of the patch size, position embedding and rope are interpolated.

    Args:
        directions: names of the scan directions, one list per layer; the depth is their number.
        img_size: side, or (height, width), of the images that the position embedding is made for.
        weighted: a supernet, whose branches are normalised and gated (see ``BranchMerge``).
        class_token: "middle" puts a learned token in the middle of the sequence, which is then classified.
        rope, rope_residual: rotate the mixer's output (the residual stream) before every layer.
        rope_resize: "angles" or "tables", see ``grid_rope``.
        dt_init, window_padding, branch_attention, merge: see the mixer and its merge.
        norm: "rms" or "layer".
        global_pool: "avg", "max", "avgmax" (their mean), "token" (the default with a class token), "last" token,
            or "" for none.
        features: what feature maps are made of: a LayerNorm of the "residual" stream, or as "released" of the
            mixer's output alone.
        feature_levels: layers whose feature LayerNorm has learned parameters.
        pyramid: make four feature levels, of strides 1/4, 1/2, 1 and 2 patches, from the last layer.

    Raises:
        InputError: a size, rate, switch or direction that is not allowed; images of a wrong shape.
    """

    pools = ("avg", "avgmax", "max", "token", "last", "")

    def __init__(
        self,
        directions: Sequence[Sequence[str]],
        *,
        img_size: int | tuple[int, int] = 224,
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
        class_token: ClassToken = "none",
        position_embedding: bool = True,
        rope: bool = True,
        rope_residual: bool = True,
        rope_resize: RopeResize = "angles",
        norm: NormKind = "rms",
        window_padding: Padding = "skip",
        branch_attention: BranchAttentionKind = "channel",
        dt_init: TimeStepInit = "mamba",
        merge: MergeKind = "sum",
        weighted: bool = False,
        features: FeatureKind = "residual",
        feature_levels: Sequence[int] = (),
        pyramid: bool = False,
    ) -> None:
        check_choice("class_token", class_token, ClassToken)
        check_choice("rope_resize", rope_resize, RopeResize)
        check_choice("features", features, FeatureKind)
        has_token = class_token == "middle"
        pool = ("token" if has_token else "avg") if global_pool is None else global_pool
        super().__init__(
            num_features=embed_dim,
            num_classes=num_classes,
            in_chans=in_chans,
            global_pool=pool,
            drop_rate=drop_rate,
            weighted=weighted,
        )
        if len(directions) == 0:
            raise InputError("LocalVim needs the directions of at least one layer")
        sides = check_sides(img_size, patch_size)
        if rope and embed_dim % 4:
            raise InputError(f"rope needs an embed_dim that is a multiple of 4, not {embed_dim}")
        if pool == "token" and not has_token:
            raise InputError("global_pool 'token' needs class_token 'middle'")
        if pyramid and feature_levels:
            raise InputError(
                "feature_levels are layers: the pyramid's four levels all come from the last one"
            )
        check_rate("drop_path_rate", drop_path_rate)
        self.embed_dim, self.patch_size, self.class_token = embed_dim, patch_size, class_token
        self.rope, self.rope_residual, self.rope_resize = rope, rope_residual, rope_resize
        self.features = features
        self.grid_size = (sides[0] // patch_size, sides[1] // patch_size)
        self.patch_embed = PatchEmbed(
            img_size=None,
            patch_size=patch_size,
            in_chans=in_chans,
            embed_dim=embed_dim,
            flatten=False,
            output_fmt="NHWC",
            dynamic_img_pad=True,
        )
        tokens = self.grid_size[0] * self.grid_size[1] + has_token
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim)) if has_token else None
        self.pos_embed = nn.Parameter(torch.empty(1, tokens, embed_dim)) if position_embedding else None
        if self.pos_embed is not None:
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.pos_drop = nn.Dropout(check_rate("pos_drop_rate", pos_drop_rate))
        depth = len(directions)
        # A layer drops the output of the layer before it, so rates come one layer late.
        rates = [0.0, *increasing_rates(drop_path_rate, depth)]
        self.layers = nn.ModuleList()
        for layer, names in enumerate(directions):
            mixer = LocalVimMixer(
                embed_dim,
                names,
                states=states,
                expand=expand,
                conv_width=conv_width,
                dt_rank=dt_rank,
                window_padding=window_padding,
                branch_attention=branch_attention,
                merge=merge,
                weighted=weighted,
                class_token=has_token,
                dt_init=dt_init,
                depth=depth,
            )
            self.layers.append(LocalVimLayer(mixer, embed_dim, norm, rates[layer]))
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate > 0 else nn.Identity()
        self.norm = channel_norm(norm, embed_dim)
        self.head = self._make_head()
        self.pyramid = SimplePyramid(embed_dim) if pyramid else None
        self.feature_info = self._describe_features()
        self._add_feature_norms(feature_levels)

    def _describe_features(self) -> list[dict[str, Any]]:
        if self.pyramid is None:
            level = {"num_chs": self.embed_dim, "reduction": self.patch_size}
            return [level | {"module": f"layers.{index}"} for index in range(len(self.layers))]
        return [
            {
                "num_chs": self.embed_dim // width,
                "reduction": max(1, int(self.patch_size * scale)),
                "module": f"pyramid.levels.{index}",
            }
            for index, (scale, width) in enumerate(zip(SCALES, WIDTHS, strict=True))
        ]

    def mixer_grids(self, height: int, width: int) -> list[tuple[int, int]]:
        grid = (math.ceil(height / self.patch_size), math.ceil(width / self.patch_size))
        return [grid] * len(self.layers)

    def _set_grid(self, sides: tuple[int, int]) -> None:
        grid = (sides[0] // self.patch_size, sides[1] // self.patch_size)
        if self.pos_embed is not None:
            with torch.no_grad():
                table = resize_positions(self.pos_embed, self.grid_size, grid, self.cls_token is not None)
            self.pos_embed = nn.Parameter(table.clone(), requires_grad=self.pos_embed.requires_grad)
        self.grid_size = grid

    def embed(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Images -> tokens [batch, length, embed_dim] with their position embedding, and the grid."""
        check_image(x, self.in_chans)
        x = self.patch_embed(x)
        grid = (x.shape[1], x.shape[2])
        x = x.flatten(1, 2)
        if self.cls_token is not None:
            middle = middle_position(x.shape[1])
            token = self.cls_token.expand(x.shape[0], -1, -1)
            x = torch.cat([x[:, :middle], token, x[:, middle:]], dim=1)
        if self.pos_embed is not None:
            x = x + resize_positions(self.pos_embed, self.grid_size, grid, self.cls_token is not None)
        return self.pos_drop(x), grid

    def _tables(self, x: Tensor, grid: tuple[int, int]) -> Tables | None:
        if not self.rope:
            return None
        return grid_rope(
            *grid,
            self.embed_dim,
            resize=self.rope_resize,
            trained=self.grid_size,
            device=x.device,
            dtype=x.dtype,
            class_token=self.cls_token is not None,
        )

    def forward_features(self, x: Tensor, gates: Sequence[LayerGates] | None = None) -> Tensor:
        """Normalised tokens [batch, length, embed_dim] of the last layer."""
        layer_gates = check_layer_gates(gates, len(self.layers), self.weighted)
        hidden, grid = self.embed(x)
        tables = self._tables(hidden, grid)
        residual: Tensor | None = None
        for layer, gate in zip(self.layers, layer_gates, strict=True):
            hidden, residual = run_layer(
                layer, hidden, residual, grid, tables, self.rope_residual, gate,
                checkpointing=self.grad_checkpointing,
            )  # fmt: skip
        hidden = self.drop_path(hidden)
        return self.norm(hidden if residual is None else residual + hidden)

    def _patch_tokens(self, x: Tensor) -> Tensor:
        if self.cls_token is None:
            return x
        middle = middle_position(x.shape[1] - 1)
        return torch.cat([x[:, :middle], x[:, middle + 1 :]], dim=1)

    def pool(self, x: Tensor) -> Tensor:
        """Tokens -> [batch, embed_dim], or unchanged without a pooling."""
        if self.global_pool in ("avg", "max", "avgmax"):
            return pool_tokens(self.global_pool, self._patch_tokens(x))
        if self.global_pool == "token":
            return x[:, middle_position(x.shape[1] - 1)]
        if self.global_pool == "last":
            return x[:, -1]
        return x

    def forward(self, x: Tensor, gates: Sequence[LayerGates] | None = None) -> Tensor:
        """Logits [batch, num_classes]; ``gates``, one per layer, replace softmax(alpha) in a supernet."""
        return self.forward_head(self.forward_features(x, gates))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
        output_dict: bool = False,
        return_prefix_tokens: bool = False,
        attn_mask: Tensor | None = None,
        gates: Sequence[LayerGates] | None = None,
    ) -> Any:
        """Feature maps of the levels ``indices``, and the final tokens unless ``intermediates_only``.

        Args:
            norm: apply the model's final norm to the maps instead of each level's LayerNorm.
            stop_early: compute no layer after the last one asked for; needs ``intermediates_only``.
            output_fmt: "NCHW" maps, or "NLC" tokens (no class token among them).
            output_dict: a dict with "image_intermediates", "image_intermediates_prefix" if asked for and, unless
                ``intermediates_only``, "image_features".
            return_prefix_tokens: with each map its class token [batch, 1, embed_dim].
            attn_mask: timm's; there is no attention that it could mask.
            gates: one per layer, replace softmax(alpha) in a supernet.

        Raises:
            InputError: an unknown format or index, tokens asked of the pyramid or of a model without, a mask.
        """
        check_no_mask(attn_mask)
        if return_prefix_tokens and (self.cls_token is None or self.pyramid is not None):
            raise InputError("return_prefix_tokens needs class_token 'middle', and no pyramid")
        if output_fmt not in ("NCHW", "NLC") or (output_fmt == "NLC" and self.pyramid is not None):
            raise InputError(f"output_fmt {output_fmt!r} is unknown: use 'NCHW', or 'NLC' without a pyramid")
        take = level_indices(indices, len(self.feature_info))
        last = len(self.layers) - 1
        levels = {last} if self.pyramid is not None else set(take)
        layer_gates = check_layer_gates(gates, len(self.layers), self.weighted)
        hidden, grid = self.embed(x)
        tables = self._tables(hidden, grid)
        residual: Tensor | None = None
        maps: dict[int, Tensor] = {}
        prefixes: dict[int, Tensor] = {}
        for index, (layer, gate) in enumerate(zip(self.layers, layer_gates, strict=True)):
            if stop_early and intermediates_only and index > max(levels):
                break
            hidden, residual = run_layer(
                layer, hidden, residual, grid, tables, self.rope_residual, gate,
                checkpointing=self.grad_checkpointing,
            )  # fmt: skip
            if index in levels:
                feature = hidden if self.features == "released" or residual is None else residual + hidden
                feature = self.norm(feature) if norm else self._normed_feature(feature, index)
                maps[index] = self._patch_tokens(feature)
                middle = middle_position(feature.shape[1])
                prefixes[index] = feature[:, middle : middle + 1]
        if output_fmt == "NCHW":
            maps = {key: value.unflatten(1, grid).permute(0, 3, 1, 2) for key, value in maps.items()}
        outputs = self.pyramid(maps[last]) if self.pyramid is not None else maps
        intermediates = [outputs[index] for index in take]
        final = None
        if not intermediates_only:
            hidden = self.drop_path(hidden)
            final = self.norm(hidden if residual is None else residual + hidden)
        tokens = [prefixes[index] for index in take] if return_prefix_tokens else None
        return intermediates_result(intermediates, final, prefixes=tokens, as_dict=output_dict)

    def _prune_layers(self, last: int) -> None:
        if self.pyramid is None:
            self.layers = self.layers[: last + 1]

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {
            "stem": r"^cls_token|^pos_embed|^patch_embed",
            "blocks": [(r"^layers\.(\d+)", None), (r"^norm|^feature_norms|^pyramid", (99999,))],
        }
