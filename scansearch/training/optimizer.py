"""The optimizer of a training and its parameter groups."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, cast

import torch
from timm.models import group_parameters
from timm.optim import create_optimizer_v2, list_optimizers
from torch import Tensor

from scansearch.errors import InputError
from scansearch.models.decay import decayed
from scansearch.training.config import OptimizerOptions

if TYPE_CHECKING:
    from scansearch.models.backbone import ScanBackbone
    from scansearch.models.dense import DenseModel


def make_optimizer(model: ScanBackbone | DenseModel, options: OptimizerOptions) -> torch.optim.Optimizer:
    """The optimizer over parameter groups that differ in weight decay and, with ``layer_decay``, learning rate.

    Raises:
        InputError: an optimizer that timm does not have, or that refuses the options.
    """
    known = cast("list[str]", list_optimizers())  # not described
    # timm wraps any of its optimizers in Lookahead where the name says so.
    if options.name.lower().removeprefix("lookahead_") not in known:
        near = difflib.get_close_matches(options.name, known, n=3) or ["adamw", "sgd", "lamb"]
        raise InputError(
            f"optimizer.name {options.name!r} is none of timm's (allowed: {', '.join(near)}, or another of timm's)"
        )
    wishes = {"betas": options.betas, "eps": options.eps, "momentum": options.momentum}
    given: dict[str, Any] = {name: value for name, value in wishes.items() if value is not None}
    try:
        optimizer = create_optimizer_v2(
            parameter_groups(model, options),
            opt=options.name,
            lr=options.lr,
            weight_decay=options.weight_decay,
            **given,
        )
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise InputError(f"optimizer {options.name!r} with {given or 'its defaults'}: {error}") from None
    # timm drops some that an optimizer lacks without a word.
    ignored = sorted(set(given) - set(optimizer.param_groups[0]))
    if ignored:
        raise InputError(f"optimizer {options.name!r} has no {ignored[0]}: leave out optimizer.{ignored[0]}")
    return optimizer


def parameter_groups(model: ScanBackbone | DenseModel, options: OptimizerOptions) -> list[dict[str, Any]]:
    """Groups with ``weight_decay`` and ``lr_scale``; the head's scale is 1, each layer below has one factor more."""
    decays = decayed(model, options.decay)
    depths: dict[str, int] = dict.fromkeys(decays, 0)
    if options.layer_decay is not None:
        if not hasattr(model, "group_matcher"):
            raise InputError(
                f"optimizer.layer_decay: {type(model).__name__} of timm does not tell its layers"
            )
        depths = group_parameters(model, cast(Any, model).group_matcher(coarse=False), reverse=True)
    top = max(depths.values())
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        key = (depths[name], decays[name])
        if key not in groups:
            groups[key] = {
                "params": [],
                "weight_decay": options.weight_decay if decays[name] else 0.0,
                "lr_scale": (options.layer_decay or 1.0) ** (top - depths[name]),
            }
        groups[key]["params"].append(parameter)
    return list(groups.values())


def group_numbers(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """The numbers that an optimizer keeps per group (some count their steps there), as JSON values."""
    return [
        {name: value for name, value in group.items() if isinstance(value, int | float)}
        for group in optimizer.param_groups
    ]


def group_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The tensors that an optimizer keeps per group, as ``group.<index>.<key>``."""
    return {
        f"group.{index}.{key}": value.detach().clone()
        for index, group in enumerate(optimizer.param_groups)
        for key, value in group.items()
        if isinstance(value, Tensor)
    }
