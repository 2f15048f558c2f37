"""Reading folders in timm's Hugging Face layout: config.json and model.safetensors, and never a pickle.

timm's own loader takes a ``pytorch_model.bin`` where there is one, and some of its versions unpickle that without
restriction. So the two files are read here, whatever the timm.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from pydantic import ConfigDict, Field

from scansearch.data.augment import Augment
from scansearch.data.treatment import Treatment
from scansearch.directions import Layers
from scansearch.errors import InputError
from scansearch.files.strict import (
    Counts,
    Numbers,
    StrictModel,
    StringLists,
    Strings,
    load_json,
    validate,
)
from scansearch.models.build import FAMILIES, build_model
from scansearch.models.published import PUBLISHED
from scansearch.records.weights import has_model, read_header, read_tensors

if TYPE_CHECKING:
    from torch import nn


class _Images(StrictModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    input_size: Counts | None = Field(default=None, min_length=3, max_length=3)
    num_classes: int | None = Field(default=None, ge=0)
    mean: Numbers | None = None
    std: Numbers | None = None
    interpolation: str | None = None
    crop_pct: float | None = Field(default=None, gt=0, le=1)


class _Directions(StrictModel):
    directions: StringLists


class _Config(StrictModel):
    """What of config.json makes the model; timm keeps more in it."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    architecture: str
    num_classes: int | None = Field(default=None, ge=0)
    label_names: Strings = ()
    global_pool: str | None = None
    model_args: dict[str, Any] = Field(default_factory=dict)
    pretrained_cfg: _Images = _Images()
    images_digest: str = ""
    brightest: float | None = Field(default=None, gt=0, allow_inf_nan=False)


@dataclass(frozen=True)
class HubModel:
    """A model in evaluation mode, on the CPU, with the channels of its images and what is done to them."""

    model: nn.Module
    channels: int | None
    treatment: Treatment | None


def load_hub_folder(folder: Path) -> HubModel:
    """The model in ``folder``. Nothing in it is executed, and no memory is taken beyond the weights in it.

    Raises:
        InputError: no config.json or model.safetensors, another architecture than scansearch's, or weights that
            do not fit it.
    """
    source = f"hub folder {str(folder)!r}"
    config = load_json(folder / "config.json", _Config)
    file = folder / "model.safetensors"
    if not file.is_file():
        raise InputError(
            f"{source} has no model.safetensors, and other weights are not read: they could run code"
        )
    tensors = read_tensors(file)
    family, layers, arguments = _architecture(config, source)
    shape = config.pretrained_cfg.input_size
    if shape is not None:
        arguments.setdefault("in_chans", shape[0])
    try:
        # On the meta device false sizes cost no memory: only tensors of the file become weights.
        with torch.device("meta"):
            model = cast("nn.Module", build_model(family, layers, **arguments))
        model.load_state_dict(tensors, assign=True)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    except (RuntimeError, TypeError, ValueError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise InputError(f"{source}: the weights do not fit config.json: {' '.join(lines[:3])}") from None
    # Where config.json was made without knowing the training, what it says of images is timm's default, not theirs.
    told = not has_model(file) or read_header(file).treatment is not None
    return HubModel(model.eval(), shape[0] if shape else None, _treatment(config, told=told))


def _treatment(config: _Config, *, told: bool) -> Treatment | None:
    images = config.pretrained_cfg
    if images.input_size is None:
        return None
    if not told:
        return Treatment(image_size=(images.input_size[1], images.input_size[2]))
    augment = None
    if images.crop_pct is not None and images.interpolation in ("bilinear", "bicubic"):
        literal: Any = images.interpolation
        augment = Augment(crop=images.crop_pct, interpolation=literal)
    return Treatment(
        image_size=(images.input_size[1], images.input_size[2]),
        classes=config.label_names,
        mean=images.mean,
        std=images.std,
        augment=augment,
        brightest=config.brightest,
        digest=config.images_digest,
    )


def _architecture(config: _Config, source: str) -> tuple[str, Layers, dict[str, Any]]:
    """Family, directions and further arguments of the model's class."""
    arguments = dict(config.model_args)
    classes = config.num_classes if config.num_classes is not None else config.pretrained_cfg.num_classes
    if classes is not None:
        arguments.setdefault("num_classes", classes)
    if config.global_pool is not None:
        arguments.setdefault("global_pool", config.global_pool)
    given = arguments.pop("directions", arguments.pop("genotype", None))
    layers = None
    if given is not None:
        layers = validate({"directions": given}, _Directions, source=f"{source}: config.json").directions
    if config.architecture in PUBLISHED:
        model = PUBLISHED[config.architecture]
        return model.family, layers or model.layers, {**model.arguments, **arguments}
    if config.architecture in FAMILIES and layers is not None:
        return config.architecture, layers, arguments
    if config.architecture in FAMILIES:
        raise InputError(f"{source}: config.json names no directions in model_args")
    known = ", ".join([*FAMILIES, *PUBLISHED])
    raise InputError(
        f"{source}: architecture {config.architecture[:60]!r} is not scansearch's (allowed: {known})"
    )
