"""What timm's entry points share: a model made from a family, its directions and timm's arguments."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from timm.models import build_model_with_cfg
from torch import Tensor, nn

from scansearch.directions import Layers
from scansearch.errors import InputError
from scansearch.models.build import build_model
from scansearch.models.local_vim import LocalVim
from scansearch.models.local_vmamba import LocalVMamba
from scansearch.models.rope import resize_positions
from scansearch.models.transfer import position_grid

# What a default_cfg says of every model here.
CONFIGURATION: dict[str, Any] = {"first_conv": "patch_embed.proj", "classifier": "head"}


def genotype_choice(genotype: Any, family: str, name: str) -> tuple[Layers, dict[str, Any]]:
    """The directions and the model arguments of a genotype: an object, the path of its file, or plain lists.

    Raises:
        InputError: a genotype of another family than ``family``, that of the model ``name``.
    """
    if isinstance(genotype, str | PathLike):
        from scansearch.records.genotype import Genotype

        genotype = Genotype.load(Path(genotype))
    given = getattr(genotype, "family", family)
    if given != family:
        raise InputError(f"the genotype is of family {given!r}, {name} of {family!r}")
    layers = tuple(tuple(names) for names in getattr(genotype, "layers", genotype))
    return layers, dict(getattr(genotype, "model", {}))


def feature_indices(depth: int) -> tuple[int, ...]:
    """The last layer of each quarter of a plain backbone."""
    return tuple(depth * quarter // 4 - 1 for quarter in (1, 2, 3, 4) if depth * quarter >= 4)


def checkpoint_filter_fn(state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Fit a checkpoint of another image size: its position embedding is resampled to the grid of ``model``.

    The grid that it was made for is that of the checkpoint's declared input size, else a square.

    Raises:
        InputError: a position embedding that belongs to neither.
    """
    table, own = state_dict.get("pos_embed"), getattr(model, "pos_embed", None)
    if not isinstance(model, LocalVim) or table is None or own is None or table.shape == own.shape:
        return state_dict
    _, height, width = model.default_cfg.get("input_size") or (3, 0, 0)
    try:
        source = position_grid(table, model, (height, width))
    except InputError as error:
        raise InputError(f"{error}: say its input_size in pretrained_cfg_overlay") from None
    table = resize_positions(table, source, model.grid_size, model.cls_token is not None)
    return state_dict | {"pos_embed": table}


def create(name: str, family: str, layers: Layers, pretrained: bool, **arguments: Any) -> nn.Module:
    """A model for timm's entrypoint ``name``: of ``family``, scanning ``layers``, ``arguments`` as timm passes them.

    Raises:
        InputError: arguments or a way of making features (``feature_cls``) that the family does not have.
    """
    plain = family == "local_vim" and not arguments.get("pyramid", False)
    stages = len(arguments.get("depths", range(4)))
    indices = feature_indices(len(layers)) if plain else tuple(range(stages))
    if arguments.get("features_only", False):
        _choose_features(arguments, family, indices, plain)

    def make(**rest: Any) -> nn.Module:
        model = build_model(family, layers, **rest)
        if arguments.get("feature_cls") == "fx":  # nodes are found by the module they were computed in
            for level in model.feature_info:
                level["module"] += ".blocks"
        return model

    model = build_model_with_cfg(
        make,
        name,
        pretrained,
        feature_cfg={"out_indices": indices, "feature_cls": "getter"},
        pretrained_filter_fn=checkpoint_filter_fn,
        **arguments,
    )
    if isinstance(model, LocalVMamba) and model.default_cfg.get("pool_size") is None:
        model.default_cfg["pool_size"] = model.stage_grids(*model.default_cfg["input_size"][1:])[-1]
    return model


def _choose_features(arguments: dict[str, Any], family: str, indices: tuple[int, ...], plain: bool) -> None:
    """Complete what timm passes for ``features_only``, in place."""
    kind = arguments.get("feature_cls", "getter")
    if (
        kind == "list"
    ):  # the layers are no chain that timm could run by itself; the getter returns the same list
        kind = arguments["feature_cls"] = "getter"
    allowed = ("getter", "list") if family == "local_vim" else ("getter", "list", "hook", "fx")
    if isinstance(kind, str) and kind not in allowed:
        raise InputError(f"feature_cls {kind!r} does not fit {family}: use {' or '.join(map(repr, allowed))}")
    if "feature_levels" not in arguments and kind == "getter":
        levels: int | Sequence[int] = arguments.get("out_indices", indices)
        levels = range(-levels, 0) if isinstance(levels, int) else levels
        # Maps get a LayerNorm that learns; the pyramid's are all made from the last layer.
        arguments["feature_levels"] = tuple(levels) if plain or family == "local_vmamba" else ()
