"""A specification of pictures with masks -> train, validation and test sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

from scansearch.data.augment import Augment
from scansearch.data.decoding import check_channels
from scansearch.data.masks.transform import whole
from scansearch.data.specifications import BOXED, MASKED, SPECIFICATIONS
from scansearch.data.splits import ImageData
from scansearch.errors import InputError
from scansearch.text import printable

_OTHERS = {"classify": SPECIFICATIONS, "segment": MASKED, "detect": BOXED}


class Reader(NamedTuple):
    """``function`` of ``module`` takes (argument, size, Augment), and by name channels, scoring and brightest."""

    module: str
    function: str = "read"


READERS = {  # by kind, as in MASKED
    "shapes": Reader("scansearch.data.masks.shapes"),
    "masks": Reader("scansearch.data.masks.folders", "read_masks"),
    "ade": Reader("scansearch.data.masks.folders", "read_ade"),
}


def load_masks(spec: str, **options: Any) -> ImageData:
    """The pictures with masks that ``spec`` names; targets are uint8 [height, width].

    Args:
        spec: ``shapes:HxW:count`` (drawn), ``masks:PATH`` (``images/`` and ``masks/``), or ``ade:PATH`` (ADE20K).
        options: of :func:`load_dense`.

    Raises:
        InputError: as :func:`load_dense`.
    """
    return load_dense(spec, READERS, task="segment", targets="masks", allowed=MASKED, **options)


def load_dense(
    spec: str,
    readers: Mapping[str, Reader],
    *,
    task: str,
    targets: str,
    allowed: Mapping[str, str],
    image_size: int | tuple[int, int],
    augment: Augment | None = None,
    max_broken: int = 100,
    channels: int | None = None,
    scoring: bool = False,
    brightest: float | None = None,
) -> ImageData:
    """The pictures that ``spec`` names, at ``image_size`` pixels, with what ``readers`` read beside them.

    Args:
        readers: by the kind of data; ``task``, ``targets`` and ``allowed`` say in a message what they read.
        augment: how training pictures are changed; None for the preset ``light``.
        max_broken: how many pictures that cannot be read are skipped before a run stops.
        channels: of a picture: 1 (grey), 3 or 4 (with opacity); None for 3.
        scoring: the pictures are only scored, so none are held out.
        brightest: the value of float and 32-bit pictures that counts as 1, as a model knows it; None for the one that
            fits them.

    Raises:
        InputError: unknown specification, missing or faulty files, or an augmentation that masks do not have.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if not spec.isprintable():
        raise InputError(f"data {printable(spec)!r} holds a character that cannot be shown or is not UTF-8")
    kind, _, argument = spec.partition(":")
    if kind not in readers or not argument:
        other = next(
            (f" (it is data of task {name})" for name, kinds in _OTHERS.items() if kind in kinds), ""
        )
        raise InputError(
            f"data {spec!r} has no {targets}{other}: task {task} takes {', '.join(allowed.values())}"
        )
    reader = readers[kind]
    function: Callable[..., ImageData] = getattr(import_module(reader.module), reader.function)
    data = function(
        argument,
        size,
        whole(augment or Augment()),
        channels=check_channels(channels or 3, spec),
        scoring=scoring,
        brightest=brightest,
    )
    return data.counting_broken(max_broken)
