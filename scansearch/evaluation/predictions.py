"""Classes of pictures without labels, most likely first."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from scansearch.data.array_files import transformed
from scansearch.data.names import ARRAY, extension, is_picture, natural_key
from scansearch.data.pictures import FolderSource, Pictures, look_at
from scansearch.data.splits import BrokenImage
from scansearch.data.transform import PictureTransform
from scansearch.data.trees import walk
from scansearch.errors import InputError
from scansearch.evaluation.loading import LoadedModel


@dataclass(frozen=True)
class Prediction:
    """What a model says of one picture.

    Attributes:
        image: its path, as it was given or below the folder that was.
        classes, probabilities: the likeliest classes, and the softmax of their logits, the largest first.
    """

    image: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


def pictures_in(paths: Sequence[str | Path]) -> list[str]:
    """The files among ``paths``, and the pictures below the folders among them; in order.

    Raises:
        InputError: a folder without pictures.
    """
    files: list[str] = []
    for path in map(Path, paths):
        if not path.is_dir():
            files.append(str(path))
            continue
        names = [str(path.joinpath(*parts)) for parts in walk(path).files if is_picture(parts[-1])]
        if not names:
            raise InputError(f"folder {str(path)!r} holds no pictures")
        files += sorted(names, key=natural_key)
    return files


def predict(
    loaded: LoadedModel, files: Sequence[str], *, top: int = 5, batch_size: int = 32
) -> Iterator[Prediction | BrokenImage]:
    """The ``top`` likeliest classes of every file, in order; what cannot be read is given as that error.

    The pictures are decoded as those of the training, or, where that is not known, of one data set: see
    :mod:`scansearch.data.decoding`.

    Raises:
        InputError: ``top`` or ``batch_size`` below 1, or a model whose outputs do not fit its classes.
    """
    if top < 1 or batch_size < 1:
        raise InputError(f"top and batch size must be at least 1, not {top}, {batch_size}")
    read = _reader(loaded, files)
    for start in range(0, len(files), batch_size):
        images: dict[str, Tensor] = {}
        broken: dict[str, BrokenImage] = {}
        chosen = files[start : start + batch_size]
        for file in chosen:
            try:
                images[file] = read(file)
            except BrokenImage as error:
                broken[file] = BrokenImage(file, error.reason)
        probabilities = iter(_probabilities(loaded, list(images.values())) if images else ())
        shares = dict(zip(images, probabilities, strict=True))
        for file in chosen:
            yield broken[file] if file in broken else _prediction(file, loaded.classes, shares[file], top)


def _reader(loaded: LoadedModel, files: Sequence[str]) -> Callable[[str], Tensor]:
    """File -> what the model takes; raises BrokenImage."""
    source = FolderSource(os.curdir)
    transform, arrays = loaded.transform, loaded.arrays
    pictures = [file for file in files if extension(file) != ARRAY]
    decoder = None
    if isinstance(transform, PictureTransform):
        every = Pictures([0] * len(pictures), pictures, source)
        decoder = look_at([every], transform.channels, transform.brightest).decoder

    def read(file: str) -> Tensor:
        if extension(file) == ARRAY:
            return transformed(source, file, arrays)
        if decoder is None or not isinstance(transform, PictureTransform):
            raise BrokenImage(file, f"the model takes .npy arrays of {arrays.channels} channels, no pictures")
        return transform.tensor(decoder.read(source, file))

    return read


def _probabilities(loaded: LoadedModel, images: list[Tensor]) -> Tensor:
    """[batch, classes], float64."""
    with torch.inference_mode():
        logits = loaded.model(torch.stack(images).to(loaded.device))
    if logits.shape != (len(images), len(loaded.classes)):
        raise InputError(
            f"{loaded.name} gives outputs of shape {list(logits.shape)}, but names {len(loaded.classes)} classes"
        )
    return logits.double().softmax(1).cpu()


def _prediction(file: str, classes: Sequence[str], shares: Tensor, top: int) -> Prediction:
    values, indices = shares.topk(min(top, len(classes)))
    return Prediction(file, tuple(classes[i] for i in indices.tolist()), tuple(values.tolist()))
