"""Computing costs: FLOPs and parameters of a model, by formula.

FLOPs come in two conventions. ``full`` is the one that budgets use. It counts as torch's ``FlopCounterMode`` does,
a multiply-add being two: every direction's convolution, projection, scan (9 per state, step and channel, and the
small terms that ``scansearch_kernels`` documents) and attention over its own length, so that it is additive over
directions. Not counted: norms, activations, softmax, sums and means, additions, gating products and sums, rope and
interpolation, all of which the counter leaves out too. ``released`` is the whole-model count of the released
LocalMamba, for comparison with its paper only: a multiply-add is one, and LocalVim counts all but the scan for one
direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from scansearch.data.treatment import height_and_width
from scansearch.directions import parse_direction
from scansearch.errors import InputError
from scansearch.models.backbone import ScanBackbone
from scansearch.models.local_vim import LocalVim
from scansearch.models.local_vmamba import LocalVMamba
from scansearch.models.merge import BranchAttention
from scansearch.models.mixers import DirectionalSSM, LocalVimMixer, LocalVMambaMixer
from scansearch.records.costs import Costs, CostTable
from scansearch.records.space import SearchSpace

FULL = "full: multiply-add counts 2, scan 9 per state, step and channel, as torch's FlopCounterMode"
SCAN_FLOPS_PER_STATE = 9


@dataclass(frozen=True)
class MixerSite:
    """A mixer, the grid of tokens that it sees, and whether a class token joins them."""

    mixer: DirectionalSSM
    height: int
    width: int

    @property
    def extra(self) -> int:
        return int(isinstance(self.mixer, LocalVimMixer) and self.mixer.class_token)

    @property
    def tokens(self) -> int:
        return self.height * self.width + self.extra

    def steps(self, direction: str) -> int:
        """Steps of one direction, padding included."""
        order = parse_direction(direction).order(self.height, self.width, self.mixer.window_padding)
        return len(order) + self.extra


def mixer_sites(model: ScanBackbone, height: int, width: int) -> list[MixerSite]:
    """Every mixer with its grid, for images of ``height`` x ``width`` pixels."""
    grids = model.mixer_grids(height, width)
    return [MixerSite(mixer, *grid) for mixer, grid in zip(model.mixers, grids, strict=True)]


def _linear(layer: object, tokens: int) -> int:
    """Multiply-adds of a linear layer over ``tokens`` rows."""
    return tokens * layer.in_features * layer.out_features if isinstance(layer, nn.Linear) else 0


def _attention(attention: BranchAttention | None, tokens: int) -> int:
    """Multiply-adds of the attention of one branch."""
    if attention is None:
        return 0
    once = _linear(attention.global_reduce, 1) + _linear(attention.channel_select, 1)
    return once + _linear(attention.local_reduce, tokens) + _linear(attention.spatial_select, tokens)


def direction_flops(site: MixerSite, direction: str) -> int:
    """FLOPs (``full``) that one direction adds to a layer."""
    mixer, steps = site.mixer, site.steps(direction)
    projected = mixer.dim * (mixer.dt_rank + 2 * mixer.states)
    per_step = SCAN_FLOPS_PER_STATE * mixer.states + 2 * mixer.dt_rank + 2
    flops = 2 * _attention(mixer.merge.attention, site.tokens)
    if isinstance(mixer, LocalVimMixer):  # projects every step, gates inside the scan, convolves in order
        flops += 2 * steps * projected
        per_step += 1 + 2 * mixer.conv_weight.shape[-1] + 2
    else:
        flops += 2 * site.tokens * projected
    return flops + steps * mixer.dim * per_step


def _fixed_macs(model: ScanBackbone, height: int, width: int) -> int:
    """Multiply-adds of everything that does not depend on the directions."""
    macs = _linear(model.head, 1)
    for site in mixer_sites(model, height, width):
        macs += _linear(site.mixer.in_proj, site.tokens) + _linear(site.mixer.out_proj, site.tokens)
        if isinstance(site.mixer, LocalVMambaMixer):
            macs += site.tokens * site.mixer.conv2d.weight.numel()
    first = mixer_sites(model, height, width)[0]
    macs += first.height * first.width * model.get_parameter("patch_embed.proj.weight").numel()
    if isinstance(model, LocalVMamba):
        grids = model.stage_grids(height, width)[1:]
        for stage, (rows, columns) in zip(model.stage_list(), grids, strict=False):
            macs += _linear(stage.downsample.reduction, rows * columns) if stage.downsample else 0
    return macs


def full_flops(model: ScanBackbone, height: int, width: int) -> int:
    """FLOPs of one image in the convention ``full``, equal to what ``FlopCounterMode`` counts.

    Equality holds where no direction is padded longer than another; elsewhere LocalVim really projects the rows
    that pad the shorter ones, which this count leaves out to stay additive.
    """
    layers = (
        direction_flops(site, name)
        for site in mixer_sites(model, height, width)
        for name in site.mixer.directions
    )
    return 2 * _fixed_macs(model, height, width) + sum(layers)


def model_costs(
    model: ScanBackbone, height: int, width: int, *, space: str | None = None, variant: str | None = None
) -> Costs:
    """FLOPs and parameters of any choice among the directions of ``model``, built without gates.

    Args:
        model: an unweighted model whose layers hold all candidates; it may live on the meta device.
        height, width: pixels.
        space, variant: recorded as given.
    """
    if model.weighted:
        raise InputError("costs are those of derived models: build the model with weighted=False")
    flops = [
        [direction_flops(site, name) for name in site.mixer.directions]
        for site in mixer_sites(model, height, width)
    ]
    sizes = [
        [sum(p[0].numel() for p in mixer.branch_parameters())] * len(mixer.directions)
        for mixer in model.mixers
    ]
    fixed = sum(p.numel() for p in model.parameters()) - sum(map(sum, sizes))
    return Costs(
        space=space,
        variant=variant,
        image_size=(height, width),
        convention=FULL,
        candidates=model.directions,
        flops=_table(2 * _fixed_macs(model, height, width), flops),
        params=_table(fixed, sizes),
    )


def _table(fixed: float, rows: list[list[int]]) -> CostTable:
    return CostTable(fixed=fixed, table=tuple(tuple(map(float, row)) for row in rows))


def space_costs(
    space: SearchSpace,
    variant: str | None = None,
    *,
    image_size: int | tuple[int, int] | None = None,
    num_classes: int = 1000,
    in_chans: int = 3,
    **overrides: Any,
) -> Costs:
    """Costs of the derived models of ``space``, without latency; no weights are made.

    Args:
        image_size: side, or (height, width), in pixels; default: the variant's.
        overrides: further arguments of the family's class.
    """
    from scansearch.models.build import build_model

    name = variant or space.default_variant
    arguments = space.model_arguments(name, "derived") | {"num_classes": num_classes, "in_chans": in_chans}
    arguments |= overrides
    if image_size is not None:
        arguments["img_size"] = image_size
    with torch.device("meta"):
        model = build_model(space.family, space.layer_candidates(name), **arguments)
    return model_costs(model, *height_and_width(arguments["img_size"]), space=space.name, variant=name)


def released_flops(model: ScanBackbone, height: int = 224, width: int = 224) -> int:
    """What the ``flops()`` method of the released code says of ``model``; a multiply-add is one.

    LocalVim: see its undercount in the module's text; the head counts 1000 classes whatever it has. LocalVMamba:
    fvcore's count over a trace, where all directions of a layer take the length of its longest.
    """
    total = _released_vim if isinstance(model, LocalVim) else _released_vmamba
    return total(model, mixer_sites(model, height, width), height, width)  # type: ignore[arg-type]


def _released_vim(model: LocalVim, layers: list[MixerSite], height: int, width: int) -> int:
    stem = layers[0].height * layers[0].width * model.patch_embed.proj.weight.numel()
    total = stem + model.embed_dim * 1000
    for site in layers:
        mixer, tokens = site.mixer, site.tokens
        assert isinstance(mixer, LocalVimMixer)
        taps = mixer.conv_weight.shape[-1]
        total += _linear(mixer.in_proj, tokens) + _linear(mixer.out_proj, tokens)
        total += (tokens + taps - 1) * mixer.dim * taps
        total += tokens * mixer.dim * (2 * mixer.dt_rank + 2 * mixer.states)
        total += len(mixer.directions) * mixer.dim * tokens * (5 * mixer.states + 2)
        total += _attention(mixer.merge.attention, 0)
        total += tokens * model.embed_dim
    return total


def _released_vmamba(model: LocalVMamba, layers: list[MixerSite], height: int, width: int) -> int:
    total = _fixed_macs(model, height, width)
    last = layers[-1]
    total += last.tokens * model.dims[-1]  # the average pooling
    norms = layers[0].tokens * model.dims[0] + last.tokens * model.dims[-1]
    for dim, (rows, columns) in zip(model.dims, model.stage_grids(height, width)[1:], strict=False):
        norms += rows * columns * 4 * dim
    for site in layers:
        mixer, tokens = site.mixer, site.tokens
        assert isinstance(mixer, LocalVMambaMixer)
        count, width_in = len(mixer.directions), mixer.in_proj.in_features
        steps = max(site.steps(name) for name in mixer.directions)
        norms += tokens * (width_in + mixer.dim)
        if mixer.merge.attention is not None:
            norms += count * tokens * mixer.dim
            total += count * _attention(mixer.merge.attention, 0)
        total += 4 * count * tokens * mixer.dim * mixer.weighted  # a LayerNorm without parameters counts 4
        total += count * mixer.dim * steps * (2 * mixer.dt_rank + 2 * mixer.states)
        total += count * mixer.dim * steps * (SCAN_FLOPS_PER_STATE * mixer.states + 1)
    return total + 5 * norms
