"""Which parameters weight decay applies to, as a named choice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from torch import nn

from scansearch.errors import InputError
from scansearch.models.backbone import ScanBackbone
from scansearch.models.checkpoints import released_sources
from scansearch.models.dense import DenseModel
from scansearch.models.merge import check_choice

DecayPolicy = Literal["mamba", "released"]


def decayed(model: ScanBackbone | DenseModel, policy: DecayPolicy = "mamba") -> dict[str, bool]:
    """For every parameter, whether it decays.

    ``mamba``: matrices and filters do; A_log, D, biases, norms, embeddings and alphas do not.
    ``released``: what LocalMamba's code did. It excludes whatever has one axis or is called a bias in its own
    layout, and the embeddings; so A_log decays, and so do LocalVMamba's time-step biases and a supernet's
    alphas. Models of timm that name nothing which does not decay have their vectors left out alone.

    Raises:
        InputError: an unknown policy, or "released" for a model that the released code does not have.
    """
    check_choice("weight decay policy", policy, DecayPolicy)
    if policy == "released" and isinstance(model, DenseModel):
        raise InputError("weight decay policy 'released' is that of the released classifiers: use 'mamba'")
    if policy == "released" and not isinstance(model, ScanBackbone):
        raise InputError("weight decay policy 'released' is that of LocalMamba's models: use 'mamba'")
    if policy == "mamba" or isinstance(model, DenseModel):
        kept = model.no_weight_decay() if hasattr(model, "no_weight_decay") else set()
        return {name: p.ndim > 1 and name not in kept for name, p in model.named_parameters()}
    embeddings = ("pos_embed", "cls_token")
    return {
        name: len(source.each) > 1 and not source.names[0].endswith(".bias") and name not in embeddings
        for name, source in released_sources(model).items()
    }


def weight_decay_groups(
    model: ScanBackbone,
    weight_decay: float,
    policy: DecayPolicy = "mamba",
    *,
    exclude: Iterable[nn.Parameter] = (),
) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: those that decay, and those with ``weight_decay`` 0.

    ``exclude`` leaves parameters out, for example alphas that have an optimizer of their own, and so are
    parameters that need no gradient.
    """
    left_out = {id(parameter) for parameter in exclude}
    decays = decayed(model, policy)
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and id(parameter) not in left_out:
            groups[decays[name]].append(parameter)
    return [
        {"params": groups[True], "weight_decay": weight_decay},
        {"params": groups[False], "weight_decay": 0.0},
    ]
