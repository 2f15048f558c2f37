"""Classifiers of timm by their registered names, with fresh weights: baselines beside searched genotypes."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import nn

from scansearch.errors import InputError
from scansearch.models.build import LARGEST, MOST_VALUES
from scansearch.text import nearest

# What would download weights, read files, or make something else than a classifier.
_REFUSED = (
    "cache_dir",
    "checkpoint_path",
    "exportable",
    "feature_cfg",
    "features_only",
    "kwargs_filter",
    "no_jit",
    "out_indices",
    "scriptable",
)


def check_timm_name(name: str) -> None:
    """Refuse what is no model of timm's registry.

    Raises:
        InputError: with the nearest name that there is.
    """
    known = timm.list_models()
    plain, _, tag = name.partition(".")
    if plain not in known:
        near = nearest(plain, known)
        hint = "" if near is None else f" (did you mean 'timm:{near}'?)"
        raise InputError(f"'timm:{name}' is unknown: timm {timm.__version__} has no model {plain!r}{hint}")
    if tag:
        raise InputError(f"'timm:{name}': pretrained weights are not loaded; write 'timm:{plain}'")


def own_image_size(name: str) -> tuple[int, int]:
    """Height and width in pixels that a model of timm is made for; 224 where timm does not say."""
    configuration = timm.get_pretrained_cfg(name, allow_unregistered=True)
    size = (3, 224, 224) if configuration is None else configuration.input_size
    return int(size[1]), int(size[2])


def build_timm(
    name: str, *, num_classes: int, in_chans: int, img_size: tuple[int, int], **arguments: Any
) -> nn.Module:
    """The classifier ``name`` of timm with fresh weights; models that take no ``img_size`` are made without.

    Args:
        img_size: height and width in pixels of the images that it will get.
        arguments: further ones of the model, such as ``drop_path_rate``.

    Returns:
        a module: images [batch, in_chans, height, width] -> logits [batch, num_classes].

    Raises:
        InputError: an unknown name, an argument that the model does not have, sizes too large to be built, or images
            that do not fit the model.
    """
    check_timm_name(name)
    for key in arguments:
        if key in _REFUSED or key.startswith("pretrained"):
            raise InputError(f"timm:{name}: {key!r} is no argument of a fresh classifier: leave it out")
    sizes = {"num_classes": (num_classes,), "in_chans": (in_chans,), "img_size": img_size}
    for key, values in sizes.items():
        if not all(1 <= value <= LARGEST[key] for value in values):
            raise InputError(f"timm:{name}: {key} must lie in 1..{LARGEST[key]}, not {values}")
    given = {"num_classes": num_classes, "in_chans": in_chans} | arguments
    given |= {"img_size": img_size} if _takes_size(name, given, img_size) else {}
    model = _created(name, given)
    _check_images(name, model, in_chans, img_size, num_classes)
    return model


def _takes_size(name: str, arguments: dict[str, Any], img_size: tuple[int, int]) -> bool:
    """Whether the model is made for one image size; also refuses one too large, by its tensors without content."""
    try:
        with torch.device("meta"):
            model = timm.create_model(name, pretrained=False, img_size=img_size, **arguments)
    except TypeError as error:
        if "img_size" in str(error):
            return False
        raise InputError(f"timm:{name}: {error}") from None
    except (
        NotImplementedError,
        RuntimeError,
    ):  # some read a value while they are made: only real tensors have it
        return True
    except (AssertionError, ValueError, AttributeError, KeyError) as error:
        raise InputError(_unfit(name, arguments["in_chans"], img_size, error)) from None
    if sum(parameter.numel() for parameter in model.parameters()) > MOST_VALUES:
        raise InputError(f"timm:{name}: more than {MOST_VALUES} parameters, which is too large to build")
    return True


def _created(name: str, arguments: dict[str, Any]) -> nn.Module:
    try:
        model: nn.Module = timm.create_model(name, pretrained=False, **arguments)
    except TypeError as error:
        raise InputError(f"timm:{name}: {error}") from None
    except (AssertionError, ValueError, AttributeError, KeyError, RuntimeError) as error:
        size = arguments.get("img_size", ())
        raise InputError(_unfit(name, arguments["in_chans"], size, error)) from None
    return model


def _check_images(name: str, model: nn.Module, channels: int, size: tuple[int, int], classes: int) -> None:
    """One image, to see that it fits."""
    training = model.training
    try:
        with torch.no_grad():
            logits = model.eval()(torch.zeros(1, channels, *size))
    except (AssertionError, ValueError, RuntimeError, IndexError, ZeroDivisionError) as error:
        raise InputError(_unfit(name, channels, size, error)) from None
    finally:
        model.train(training)
    if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != (1, classes):
        raise InputError(
            f"timm:{name} is no classifier of pictures: it gives no logits for {classes} classes"
        )


def _unfit(name: str, channels: int, size: tuple[int, ...], error: Exception) -> str:
    why = (str(error).strip().splitlines() or [type(error).__name__])[0]
    sides = "x".join(map(str, size))
    bands = f"{channels} channel" + ("" if channels == 1 else "s")
    images = f"images of {sides} pixels and {bands}" if size else bands
    return f"timm:{name} does not fit {images}: {why}"
