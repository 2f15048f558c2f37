"""``folder:PATH`` and ``timm:NAME``: pictures in folders, tar files, torchvision and Hugging Face data sets."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from scansearch.data.augment import DEVIATION, MEAN, Augment, image_transforms
from scansearch.data.splits import BrokenImage, ImageData, Sample, Split, stratified
from scansearch.errors import InputError, MissingExtra
from scansearch.files.regular import check_regular

_SPLIT_SEED = 2024
_NAMES = {"train": ("train",), "validation": ("val", "validation"), "test": ("test",)}
_STREAMS = ("hfids", "tfds", "wds")


@dataclass(frozen=True)
class Pictures:
    """Pictures in order, not yet decoded.

    ``open`` gives a PIL image (or what ``PIL.Image.open`` takes), ``name`` what to call it in a message.
    """

    labels: list[int]
    open: Callable[[int], Any]
    name: Callable[[int], str]

    def part(self, indices: Sequence[int]) -> Pictures:
        return Pictures(
            [self.labels[i] for i in indices],
            lambda i: self.open(indices[i]),
            lambda i: self.name(indices[i]),
        )

    def split(self, transform: Callable[[Any], Tensor], *, augments: bool = False) -> Split:
        def read(index: int) -> Sample:
            from PIL import Image

            try:
                source = self.open(index)
                if isinstance(source, str):
                    check_regular(Path(source))
                if isinstance(source, Image.Image):
                    return transform(source.convert("RGB")), self.labels[index]
                with Image.open(source) as image:
                    return transform(image.convert("RGB")), self.labels[index]
            # SyntaxError and ValueError: what Pillow raises for some damaged PNG and GIF files.
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                raise BrokenImage(self.name(index), error) from None

        return Split(len(self.labels), read, augments)


def read_folder(argument: str, size: tuple[int, int], augment: Augment) -> ImageData:
    """``PATH/train``, ``PATH/val`` (or ``validation``) and ``PATH/test``, one folder of images per class.

    Where only two of them exist, the second is the test set and a tenth of the training images validates;
    where the classes stand directly in PATH, a tenth validates and a tenth tests.
    """
    root = Path(argument).expanduser()
    if not root.is_dir():
        raise InputError(f"data folder {str(root)!r} does not exist")
    folders = {
        part: root / name for part, names in _NAMES.items() for name in names if (root / name).is_dir()
    }
    if "train" not in folders:
        pictures, classes = _folder(root)
        parts = {"train": pictures}
    else:
        pictures, classes = _folder(folders.pop("train"))
        parts = {"train": pictures} | {part: _folder(path, classes)[0] for part, path in folders.items()}
        if len(parts) == 1:
            raise InputError(f"data folder {str(root)!r} has train/ but neither val/ nor test/")
    return _assemble(f"folder:{argument}", f"data folder {str(root)!r}", parts, classes, size, augment)


def _folder(folder: Path, classes: tuple[str, ...] | None = None) -> tuple[Pictures, tuple[str, ...]]:
    """Image files below ``folder`` with the index of their class folder, as timm's folder reader finds them."""
    from timm.data.readers import create_reader

    known = {name: index for index, name in enumerate(classes)} if classes is not None else None
    try:
        reader = create_reader("folder", root=str(folder), class_map=known or "")
    except RuntimeError:
        raise InputError(f"data folder {str(folder)!r} holds no images in class folders") from None
    names = classes or tuple(sorted(reader.class_to_idx, key=reader.class_to_idx.__getitem__))
    unexpected = sorted({path.name for path in folder.iterdir() if path.is_dir()} - set(names))
    if unexpected:
        raise InputError(
            f"data folder {str(folder)!r} has class {unexpected[0]!r}, which the training images lack"
        )
    paths = [str(path) for path, _ in reader.samples]
    _refuse_folders_twice({os.path.dirname(path) for path in paths})
    labels = [int(label) for _, label in reader.samples]
    return Pictures(labels, paths.__getitem__, paths.__getitem__), names


def _refuse_folders_twice(folders: set[str]) -> None:
    """A link from a folder to one above it would make every image count several times."""
    real: dict[str, str] = {}
    for folder in sorted(folders):
        first = real.setdefault(os.path.realpath(folder), folder)
        if first != folder:
            raise InputError(f"data folders {first!r} and {folder!r} are one and the same, by a link")


def read_timm(argument: str, size: tuple[int, int], augment: Augment) -> ImageData:
    """``NAME@ROOT`` or a path, through timm's factory.

    ``torch/NAME@ROOT`` is a data set of torchvision, kept in (and if need be downloaded to) ROOT; ``hfds/NAME``
    one of the Hugging Face hub; ``PATH.tar`` a tar file of class folders, and ``PATH`` a folder with train.tar
    and val.tar or test.tar. Missing splits are made as in ``folder:``.
    """
    name, _, root = argument.partition("@")
    prefix = name.partition("/")[0].lower()
    if prefix in _STREAMS:
        raise InputError(
            f"data 'timm:{argument}' is a stream: without an index a resume cannot be exact (allowed: timm:torch/..., "
            "timm:hfds/..., timm:PATH.tar)"
        )
    readers = {"torch": _torchvision, "hfds": _hugging_face}
    parts, classes = readers[prefix](name, root) if prefix in readers else _tar(Path(argument).expanduser())
    return _assemble(f"timm:{argument}", f"data 'timm:{argument}'", parts, classes, size, augment)


def _torchvision(name: str, root: str) -> tuple[dict[str, Pictures], tuple[str, ...]]:
    from timm.data import create_dataset

    if not root:
        raise InputError(f"data 'timm:{name}' needs a folder to be kept in: timm:{name}@FOLDER")
    parts: dict[str, Pictures] = {}
    classes: tuple[object, ...] = ()
    for part, split in (("train", "train"), ("test", "validation")):
        try:
            data = create_dataset(name, root=root, split=split, download=True)
        except (AssertionError, OSError, RuntimeError, TypeError) as error:
            raise InputError(f"data 'timm:{name}@{root}' cannot be read: {error}") from None
        labels = getattr(data, "targets", None)
        labels = getattr(data, "_labels", None) if labels is None else labels
        if labels is None:
            raise InputError(f"data 'timm:{name}' has no list of labels, which splitting needs")

        parts[part] = _indexed([int(label) for label in labels], data, f"{name} {split}")
        classes = tuple(getattr(data, "classes", ()) or range(max(parts[part].labels) + 1))
    return parts, tuple(str(label) for label in classes)


def _indexed(labels: list[int], data: Any, what: str) -> Pictures:
    """Pictures of something whose items start with the picture."""
    return Pictures(labels, lambda i: data[i][0], lambda i: f"{what} image {i}")


def _hugging_face(name: str, root: str) -> tuple[dict[str, Pictures], tuple[str, ...]]:
    try:
        import datasets  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: F401
    except ImportError:
        raise MissingExtra("datasets", "hf", f"data 'timm:{name}'") from None
    from timm.data.readers import create_reader

    parts: dict[str, Pictures] = {}
    classes: tuple[str, ...] = ()
    for part, splits in _NAMES.items():
        for split in splits:
            try:
                reader = create_reader(name, root=root or None, split=split)
            except (ValueError, OSError, KeyError) as error:
                if part == "train":
                    raise InputError(
                        f"split 'train' of data 'timm:{name}' cannot be read: {' '.join(str(error).split())}"
                    ) from None
                continue

            labels = [int(label) for label in reader.dataset[reader.label_key]]
            parts[part] = _indexed(labels, reader, f"{name} {split}")
            classes = classes or _in_order(reader.class_to_idx) or tuple(map(str, range(max(labels) + 1)))
    return parts, classes


def _tar(path: Path) -> tuple[dict[str, Pictures], tuple[str, ...]]:
    files = {"train": path}
    if path.is_dir():
        files = {
            part: path / f"{name}.tar"
            for part, names in _NAMES.items()
            for name in names
            if (path / f"{name}.tar").is_file()
        }
    if "train" not in files or not files["train"].is_file() or files["train"].suffix != ".tar":
        raise InputError(
            f"data 'timm:{path}' is neither a .tar file nor a folder with train.tar (allowed: timm:PATH.tar, "
            "timm:PATH, timm:torch/NAME@FOLDER, timm:hfds/NAME)"
        )
    parts: dict[str, Pictures] = {}
    classes: tuple[str, ...] = ()
    for part, file in files.items():
        pictures, classes = _tar_file(file, classes)
        parts[part] = pictures
    return parts, classes


def _tar_file(file: Path, classes: tuple[str, ...]) -> tuple[Pictures, tuple[str, ...]]:
    import tarfile

    from timm.data.readers.reader_image_in_tar import ReaderImageInTar

    known = {label: index for index, label in enumerate(classes)}
    try:
        # No cached handles: forked workers would share their file position. No cached listing: it is a pickle.
        reader = ReaderImageInTar(str(file), class_map=known, cache_tarfiles=False, cache_tarinfo=False)
    except (tarfile.TarError, OSError, ValueError) as error:
        raise InputError(f"tar file {str(file)!r} holds no images in class folders: {error}") from None
    labels = [int(label) for label in reader.targets]
    pictures = Pictures(labels, lambda i: reader[i][0], lambda i: f"{file}:{reader.filename(i)}")
    return pictures, classes or _in_order(reader.class_name_to_idx)


def _in_order(indices: dict[str, int]) -> tuple[str, ...]:
    return tuple(sorted(indices, key=indices.__getitem__))


def _assemble(
    spec: str,
    what: str,
    parts: dict[str, Pictures],
    classes: tuple[str, ...],
    size: tuple[int, int],
    augment: Augment,
) -> ImageData:
    """Make the splits that are missing: first the test set, then the one for validation, out of the training set."""
    if "test" not in parts and "validation" in parts:
        parts = {"train": parts["train"], "test": parts["validation"]}
    train = parts["train"]
    tenth = 0 if len(parts) == 3 else _tenth(train.labels, what)
    held = {}
    for part in ("test", "validation"):
        if part not in parts:
            kept, out = stratified(train.labels, tenth, seed=_SPLIT_SEED)
            train, held[part] = train.part(kept), train.part(out)
    parts = {**parts, **held, "train": train}
    augmented, plain = image_transforms(augment, size)
    return ImageData(
        spec=spec,
        classes=classes,
        channels=3,
        image_size=size,
        train=train.split(augmented, augments=True),
        validation=parts["validation"].split(plain),
        test=parts["test"].split(plain),
        mean=MEAN,
        deviation=DEVIATION,
        digest=_digest([train, parts["validation"], parts["test"]]),
    )


def _digest(splits: Sequence[Pictures]) -> str:
    digest = hashlib.sha256()
    for pictures in splits:
        for index, label in enumerate(pictures.labels):
            digest.update(f"{pictures.name(index)}\0{label}\n".encode(errors="surrogateescape"))
        digest.update(b"\0")
    return digest.hexdigest()


def _tenth(labels: list[int], what: str) -> int:
    counts: dict[int, int] = {}
    for label in labels:
        counts[label] = counts.get(label, 0) + 1
    smallest = min(counts.values())
    if smallest < 3:
        raise InputError(f"{what}: a class has {smallest} images; 3 are needed to split them")
    return max(len(labels) // 10, len(counts))
