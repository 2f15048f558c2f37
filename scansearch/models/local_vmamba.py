"""LocalVMamba: a hierarchical state-space backbone (VMamba) with scan directions chosen per layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn
from torch.fx import Proxy

from scansearch.directions import Padding
from scansearch.errors import InputError
from scansearch.models.backbone import (
    ScanBackbone,
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
from scansearch.models.merge import BranchAttentionKind, LayerGates, MergeKind, check_layer_gates
from scansearch.models.mixers import LocalVMambaMixer, TimeStepInit

EPSILON = 1e-5


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    return layer


class PatchStem(nn.Module):
    """Images [batch, channels, height, width] -> normalised patches [batch, rows, columns, dim].

    Pixels that fill no whole patch at the right and bottom are left out, as in the released code.
    """

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
        self.reduction = _linear(4 * dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))


class LocalVMambaBlock(nn.Module):
    """x + mixer(norm(x)) over [batch, height, width, dim]."""

    def __init__(self, mixer: LocalVMambaMixer, dim: int, drop_path: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=EPSILON)
        self.mixer = mixer
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor, gates: LayerGates | None = None) -> Tensor:
        return x + self.drop_path(self.mixer(self.norm(x), gates))


class Stage(nn.Module):
    """The blocks of one resolution; it also holds the merging to the next (None after the last).

    Its output is the map of its own resolution: what a hook on it sees. The model applies ``downsample``.
    """

    def __init__(self, blocks: Sequence[LocalVMambaBlock], downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample
        self.grad_checkpointing = False

    def forward(self, x: Tensor, gates: Sequence[LayerGates | None] | None = None) -> Tensor:
        """Maps ``x`` [batch, height, width, dim] to the same shape; ``gates``, one per block."""
        for index, block in enumerate(self.blocks):
            gate = None if gates is None else gates[index]
            x = run_layer(block, x, gate, checkpointing=self.grad_checkpointing)
        return x


class LocalVMamba(ScanBackbone):
    """LocalVMamba (LocalMamba, arXiv 2403.09338), and VMamba's first version as a special case.

    Images [batch, in_chans, height, width] of any size give logits [batch, num_classes]. There is no position
    embedding, so ``img_size`` is only checked against the strides.

    Args:
        directions: names of the scan directions, one list per block, in order over all stages.
        dims, depths: width and number of blocks of each stage; the grid halves between stages.
        ssm_ratio: inner channels of a mixer in units of its width.
        weighted: a supernet, whose branches are normalised and gated (see ``BranchMerge``).
        dt_init: "mamba"; "released" is the same here, because the released code keeps that initialisation.
        window_padding, branch_attention, merge: see the mixer and its merge.
        feature_levels: stages whose feature LayerNorm has learned parameters.

    Raises:
        InputError: a size, rate, switch or direction that is not allowed; images of a wrong shape.
    """

    output_fmt = "NHWC"

    def __init__(
        self,
        directions: Sequence[Sequence[str]],
        *,
        dims: Sequence[int] = (96, 192, 384, 768),
        depths: Sequence[int] = (2, 2, 9, 2),
        img_size: int | tuple[int, int] = 224,
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
        window_padding: Padding = "skip",
        branch_attention: BranchAttentionKind = "channel",
        dt_init: TimeStepInit = "mamba",
        merge: MergeKind = "sum",
        weighted: bool = False,
        feature_levels: Sequence[int] = (),
    ) -> None:
        if not dims or len(dims) != len(depths) or min(*dims, *depths) < 1:
            raise InputError(
                f"dims {tuple(dims)} and depths {tuple(depths)} need one size >= 1 for each stage"
            )
        if len(directions) != sum(depths):
            raise InputError(
                f"LocalVMamba of depths {tuple(depths)} has {sum(depths)} layers, not {len(directions)}"
            )
        super().__init__(
            num_features=dims[-1],
            num_classes=num_classes,
            in_chans=in_chans,
            global_pool=global_pool,
            drop_rate=drop_rate,
            weighted=weighted,
        )
        check_sides(img_size, patch_size)
        self.patch_size, self.dims, self.depths = patch_size, tuple(dims), tuple(depths)
        self.patch_embed = PatchStem(in_chans, dims[0], patch_size)
        rates = increasing_rates(check_rate("drop_path_rate", drop_path_rate), sum(depths))
        self.stages = nn.ModuleList()
        layer = 0
        for index, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
            blocks = []
            for _ in range(depth):
                mixer = LocalVMambaMixer(
                    dim,
                    directions[layer],
                    states=states,
                    ssm_ratio=ssm_ratio,
                    conv_width=conv_width,
                    dt_rank=dt_rank,
                    window_padding=window_padding,
                    branch_attention=branch_attention,
                    merge=merge,
                    weighted=weighted,
                    dt_init=dt_init,
                )
                blocks.append(LocalVMambaBlock(mixer, dim, rates[layer]))
                layer += 1
            last = index == len(dims) - 1
            self.stages.append(Stage(blocks, None if last else PatchMerging(dim, dims[index + 1])))
            self.feature_info.append(
                {"num_chs": dim, "reduction": patch_size * 2**index, "module": f"stages.{index}"}
            )
        self.norm = nn.LayerNorm(dims[-1], eps=EPSILON)
        self.head = self._make_head()
        self._add_feature_norms(feature_levels)

    def embed(self, x: Tensor) -> Tensor:
        """Images -> patches [batch, rows, columns, dims[0]]."""
        check_image(x, self.in_chans)
        if not isinstance(x, Proxy) and min(x.shape[2:]) < self.patch_size:
            raise InputError(
                f"images of {tuple(x.shape[2:])} pixels hold no patch of {self.patch_size} pixels"
            )
        return self.patch_embed(x)

    def stage_list(self) -> list[Stage]:
        """The stages, typed."""
        return [stage for stage in self.stages if isinstance(stage, Stage)]

    def stage_grids(self, height: int, width: int) -> list[tuple[int, int]]:
        """Rows and columns of tokens in each stage, for images of ``height`` x ``width`` pixels."""
        rows, columns = height // self.patch_size, width // self.patch_size
        grids = []
        for _ in self.depths:
            grids.append((rows, columns))
            rows, columns = -(-rows // 2), -(-columns // 2)
        return grids

    def mixer_grids(self, height: int, width: int) -> list[tuple[int, int]]:
        grids = zip(self.stage_grids(height, width), self.depths, strict=True)
        return [grid for grid, depth in grids for _ in range(depth)]

    def _stages(self, x: Tensor, gates: Sequence[LayerGates | None] | None = None) -> Iterator[Tensor]:
        start = 0
        for stage, depth in zip(self.stage_list(), self.depths, strict=True):
            x = stage(x) if gates is None else stage(x, gates[start : start + depth])
            start += depth
            yield x
            if stage.downsample is not None:
                x = stage.downsample(x)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        super().set_grad_checkpointing(enable)
        for stage in self.stage_list():
            stage.grad_checkpointing = enable

    def _set_grid(self, sides: tuple[int, int]) -> None:
        """Nothing is made for one size only."""

    def forward_features(self, x: Tensor, gates: Sequence[LayerGates] | None = None) -> Tensor:
        """Normalised tokens [batch, rows, columns, dims[-1]] of the last stage."""
        layer_gates = check_layer_gates(gates, sum(self.depths), self.weighted)
        *_, x = self._stages(self.embed(x), layer_gates)
        return self.norm(x)

    def pool(self, x: Tensor) -> Tensor:
        """Tokens -> [batch, dims[-1]], or unchanged without a pooling."""
        return pool_tokens(self.global_pool, x.flatten(1, 2)) if self.global_pool else x

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
        """Feature maps of the stages ``indices``, and the final tokens unless ``intermediates_only``.

        Args:
            norm: apply the model's final norm to the last stage's map instead of its own LayerNorm.
            stop_early: compute no stage after the last one asked for; needs ``intermediates_only``.
            output_fmt: "NCHW" or "NHWC".
            output_dict: a dict with "image_intermediates" and, unless ``intermediates_only``, "image_features".
            return_prefix_tokens, attn_mask: timm's; this model has neither such tokens nor attention.
            gates: one per layer, replace softmax(alpha) in a supernet.

        Raises:
            InputError: an unknown format or index, prefix tokens or a mask.
        """
        check_no_mask(attn_mask)
        if return_prefix_tokens:
            raise InputError("return_prefix_tokens: LocalVMamba has no tokens besides those of its map")
        if output_fmt not in ("NCHW", "NHWC"):
            raise InputError(f"output_fmt {output_fmt!r} is unknown: use 'NCHW' or 'NHWC'")
        take = level_indices(indices, len(self.feature_info))
        maps: dict[int, Tensor] = {}
        layer_gates = check_layer_gates(gates, sum(self.depths), self.weighted)
        stages = self._stages(self.embed(x), layer_gates)
        for index, x in enumerate(stages):
            if index in take:
                final = norm and index == len(self.dims) - 1
                feature = self.norm(x) if final else self._normed_feature(x, index)
                maps[index] = feature.permute(0, 3, 1, 2) if output_fmt == "NCHW" else feature
            if stop_early and intermediates_only and index >= max(take):
                break
        intermediates = [maps[index] for index in take]
        tokens = None if intermediates_only else self.norm(x)
        return intermediates_result(intermediates, tokens, as_dict=output_dict)

    def _prune_layers(self, last: int) -> None:
        self.stages = self.stages[: last + 1]
        self.stage_list()[-1].downsample = None
        self.dims, self.depths = self.dims[: last + 1], self.depths[: last + 1]
        self.num_features = self.head_hidden_size = self.dims[-1]
        if not isinstance(self.norm, nn.Identity) and self.norm.normalized_shape != (self.dims[-1],):
            self.norm = nn.LayerNorm(self.dims[-1], eps=EPSILON)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {
            "stem": r"^patch_embed",
            "blocks": r"^stages\.(\d+)"
            if coarse
            else [
                (r"^stages\.(\d+)\.downsample", (0,)),
                (r"^stages\.(\d+)\.blocks\.(\d+)", None),
                (r"^norm|^feature_norms", (99999,)),
            ],
        }
