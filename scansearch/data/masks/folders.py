"""``masks:PATH`` and ``ade:PATH``: folders of pictures, and beside them folders of masks.

``masks:PATH`` has ``images/`` and ``masks/``, where ``masks/a/b.png`` belongs to ``images/a/b.jpg``. A mask holds the
class of every pixel; 255 is ignored. Below both folders there may be those of splits (train, val, test, under the
names that :mod:`scansearch.data.names` knows). ``classes.txt`` names the classes, one a line, the first for the
value 0; without it they are numbered up to the largest value of any mask.

``ade:PATH`` is ADE20K's scene parsing benchmark as it is distributed (arXiv 1608.05442): ``images/`` and
``annotations/``, each with ``training`` and ``validation``, values 1 to 150; 0, "other", is ignored. Names come from
``objectInfo150.txt``, where that is there.

Every mask is read once before a run starts, so that a fault is told with its file.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scansearch.data.augment import Augment
from scansearch.data.masks.pairs import MaskedPictures, masked_data
from scansearch.data.masks.parts import parts_to_score, parts_to_train
from scansearch.data.masks.transform import IGNORED
from scansearch.data.names import (
    ARRAY,
    PartName,
    counted,
    extension,
    is_picture,
    listed,
    natural_key,
    part_called,
)
from scansearch.data.pictures import Decoder, FolderSource, Pictures, look_at
from scansearch.data.splits import ImageData
from scansearch.data.trees import Names, walk
from scansearch.errors import InputError
from scansearch.files.strict import read_text

ADE_CLASSES, ADE_NAMES = 150, "objectInfo150.txt"
_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap the sides
_ORIENTATION = 0x0112


class PairKey(NamedTuple):
    """Paths of a picture and its mask, relative to the data folder."""

    picture: str
    mask: str


@dataclass(frozen=True)
class FolderPairs:
    """Pictures and masks below ``root``; keys are :class:`PairKey`.

    Attributes:
        others: the value 0 is ignored, and the class of a value is one less.
        decoder: of the pictures.
    """

    root: str
    others: bool = False
    decoder: Decoder = field(default_factory=Decoder)

    def pair(self, key: PairKey) -> tuple[Any, np.ndarray]:
        return self.decoder.read(FolderSource(self.root), key.picture), self.mask(key)

    def mask(self, key: PairKey) -> np.ndarray:
        """The classes of ``key``.

        Raises:
            ValueError: a file that holds no mask.
        """
        with FolderSource(self.root).open(key.mask) as file:
            return self.decode(file.read())

    def decode(self, content: bytes) -> np.ndarray:
        """Classes, uint8 [height, width], of the content of a mask's file."""
        from PIL import Image

        with Image.open(io.BytesIO(content), formats=("PNG",)) as picture:
            if picture.mode not in ("1", "L", "P", "I", "I;16"):
                raise ValueError(f"it holds colours ({picture.mode}), not one number for each pixel")
            values = np.asarray(picture).astype(np.int64)
        if values.max(initial=0) > IGNORED:
            raise ValueError(f"it holds the value {values.max()}, and {IGNORED} is the largest")
        return (values - 1 if self.others else values).astype(np.uint8)

    def name(self, key: PairKey) -> str:
        return str(Path(self.root, key.picture))


def read_masks(
    argument: str,
    size: tuple[int, int],
    augment: Augment,
    *,
    channels: int,
    scoring: bool = False,
    brightest: float | None = None,
) -> ImageData:
    """The data of ``masks:PATH``.

    Raises:
        InputError: no such folder, a picture without a mask, or a mask that does not fit; names the file.
    """
    root = _folder(argument, "masks", ("images", "masks"))
    notes, pools = _pair_up(root, "masks")
    classes = _classes(root / "classes.txt") if (root / "classes.txt").is_file() else None
    source = FolderPairs(str(root))
    looked = _look(source, pools, None if classes is None else len(classes))
    if classes is None:
        classes = tuple(str(label) for label in range(looked.largest + 1))
        notes.append(f"there is no classes.txt: {len(classes)} classes, up to the largest value of the masks")
    if len(classes) < 2:
        raise InputError(f"data folder {str(root)!r} has one class only, {classes[0]!r}")
    return _assemble(
        f"masks:{argument}",
        source,
        pools,
        classes,
        looked,
        notes,
        size,
        augment,
        channels,
        scoring,
        brightest,
    )


def read_ade(
    argument: str,
    size: tuple[int, int],
    augment: Augment,
    *,
    channels: int,
    scoring: bool = False,
    brightest: float | None = None,
) -> ImageData:
    """The data of ``ade:PATH``.

    Raises:
        InputError: as :func:`read_masks`.
    """
    root = _folder(argument, "ade", ("images", "annotations"))
    notes, pools = _pair_up(root, "annotations")
    source = FolderPairs(str(root), others=True)
    looked = _look(source, pools, ADE_CLASSES)
    classes = _ade_names(root / ADE_NAMES)
    return _assemble(
        f"ade:{argument}", source, pools, classes, looked, notes, size, augment, channels, scoring, brightest
    )


def _folder(argument: str, kind: str, inside: Sequence[str]) -> Path:
    root = Path(argument).expanduser()
    if not root.is_dir():
        raise InputError(f"data folder {str(root)!r} does not exist")
    for name in inside:
        if not (root / name).is_dir():
            raise InputError(f"data folder {str(root)!r} holds no {name}/, which {kind}:PATH needs")
    return root


# --- which mask belongs to which picture ----------------------------------------------------------------


def _pair_up(root: Path, masks: str) -> tuple[list[str], dict[PartName | None, list[PairKey]]]:
    """Notes, and the pairs by split; None is the split of all where there are no folders of splits.

    Raises:
        InputError: no pictures, one without a mask, or some in folders of splits and others not.
    """
    pictures, other = _by_stem(root / "images"), _by_stem(root / masks)
    if not pictures:
        raise InputError(f"data folder {str(root / 'images')!r} holds no pictures")
    missing = [stem for stem in pictures if stem not in other]
    if missing:
        raise InputError(
            f"{counted(len(missing), 'picture')} of {str(root / 'images')!r} without a mask of that name in {masks}/: "
            f"{listed('/'.join(pictures[stem]) for stem in missing)}"
        )
    wrong = [path for path in other.values() if extension(path[-1]) != ".png"]
    if wrong:
        raise InputError(f"{str(root.joinpath(masks, *wrong[0]))!r} is no PNG file, which a mask must be")
    notes = []
    if len(other) > len(pictures):
        notes.append(f"passed over {counted(len(other) - len(pictures), 'mask')} without a picture")
    pools: dict[PartName | None, list[PairKey]] = {}
    for stem, path in pictures.items():
        part = part_called(stem[0]) if len(stem) > 1 else None
        key = PairKey("/".join(("images", *path)), "/".join((masks, *other[stem])))
        pools.setdefault(part, []).append(key)
    if None in pools and len(pools) > 1:
        raise InputError(
            f"{pools[None][0].picture!r} in {str(root)!r} is in no folder of a split, but others are: put all of them "
            "into train, val and test, or none"
        )
    return notes, pools


def _by_stem(folder: Path) -> dict[Names, Names]:
    """Path without its extension -> path, of every picture below ``folder``, in natural order.

    Raises:
        InputError: two files that differ in the extension alone.
    """
    paths = [path for path in walk(folder).files if is_picture(path[-1]) and extension(path[-1]) != ARRAY]
    stems: dict[Names, Names] = {}
    for path in sorted(paths, key=lambda path: [natural_key(name) for name in path]):
        stem = (*path[:-1], path[-1].rpartition(".")[0])
        if stem in stems:
            raise InputError(
                f"{str(folder)!r} holds {'/'.join(stems[stem])!r} and {'/'.join(path)!r}: which of them is meant?"
            )
        stems[stem] = path
    return stems


# --- a look at every mask -------------------------------------------------------------------------------


class _Look(NamedTuple):
    """What all masks tell: the largest class, and the digest of their files."""

    largest: int
    digest: bytes


def _look(
    source: FolderPairs, pools: Mapping[PartName | None, Sequence[PairKey]], classes: int | None
) -> _Look:
    """Read every mask, and the size of its picture.

    Raises:
        InputError: naming the first file with a fault.
    """
    keys = [key for pool in pools.values() for key in pool]

    def one(key: PairKey) -> tuple[int, bytes]:
        mask_file, picture_file = (str(Path(source.root, name)) for name in (key.mask, key.picture))
        try:
            with FolderSource(source.root).open(key.mask) as file:
                content = file.read()
            mask = source.decode(content)
        except Exception as error:  # damaged files raise errors of any kind
            raise InputError(f"mask {mask_file!r} cannot be read: {error}") from None
        labelled = mask[mask != IGNORED]
        largest = int(labelled.max(initial=0))
        if classes is not None and largest >= classes:
            value = largest + source.others
            raise InputError(f"mask {mask_file!r} holds the value {value}, but there are {classes} classes")
        sides = upright_sides(source.root, key.picture)
        if sides is not None and sides != mask.shape:
            (height, width), (rows, columns) = sides, mask.shape
            raise InputError(
                f"mask {mask_file!r} is {columns} x {rows} pixels, its picture {picture_file!r} {width} x {height}"
            )
        return largest, hashlib.sha256(content).digest()

    with ThreadPoolExecutor() as threads:
        looked = list(threads.map(one, keys))
    digest = hashlib.sha256(b"".join(digest for _, digest in looked)).digest()
    return _Look(max((largest for largest, _ in looked), default=0), digest)


def upright_sides(root: str, name: str) -> tuple[int, int] | None:
    """Height and width of an upright picture by its header; None where it is damaged, which is told at its turn."""
    from PIL import Image

    try:
        with FolderSource(root).open(name) as file, Image.open(file) as picture:
            width, height = picture.size
            turned = picture.getexif().get(_ORIENTATION) in _TURNED
    except Exception:  # damaged files raise errors of any kind
        return None
    return (width, height) if turned else (height, width)


def _classes(path: Path) -> tuple[str, ...]:
    names = [line.strip() for line in read_text(path).splitlines()]
    while names and not names[-1]:
        names.pop()
    if not 2 <= len(names) <= IGNORED:
        raise InputError(f"{path}: {len(names)} classes (allowed: 2 to {IGNORED}, one a line)")
    if "" in names or len(set(names)) < len(names):
        twice = next((name for name in names if names.count(name) > 1), "")
        raise InputError(f"{path}: {f'class {twice!r} stands there twice' if twice else 'an empty line'}")
    return tuple(names)


def _ade_names(path: Path) -> tuple[str, ...]:
    """The first name of each class in the table that comes with ADE20K, or the classes' numbers."""
    numbers = tuple(str(label) for label in range(1, ADE_CLASSES + 1))
    if not path.is_file():
        return numbers
    rows = [line.split("\t") for line in read_text(path).splitlines()[1 : ADE_CLASSES + 1]]
    if [row[0].strip() for row in rows] != list(numbers):
        raise InputError(f"{path}: expected a heading, and a line for each class from 1 to {ADE_CLASSES}")
    names = [row[-1].split(",")[0].strip() or row[0] for row in rows]
    # Some names are those of two classes.
    return tuple(
        name if names.count(name) == 1 else f"{name} ({number})"
        for name, number in zip(names, numbers, strict=True)
    )


# --- splits ---------------------------------------------------------------------------------------------


def _assemble(
    spec: str,
    source: FolderPairs,
    pools: Mapping[PartName | None, list[PairKey]],
    classes: tuple[str, ...],
    looked: _Look,
    notes: list[str],
    size: tuple[int, int],
    augment: Augment,
    channels: int,
    scoring: bool,
    brightest: float | None,
) -> ImageData:
    given: dict[PartName, list[PairKey]] = {part or "train": keys for part, keys in pools.items()}
    parts = parts_to_score(given, notes) if scoring else parts_to_train(given, notes, spec)
    every = [
        Pictures([0] * len(keys), [key.picture for key in keys], FolderSource(source.root))
        for keys in parts.values()
    ]
    pictures = look_at(every, channels, brightest)
    source = replace(source, decoder=pictures.decoder)
    digest = hashlib.sha256(looked.digest + pictures.contents)
    for keys in parts.values():
        for key in keys:
            digest.update(f"{key.picture}\0{key.mask}\n".encode(errors="surrogatepass"))
        digest.update(b"\0")
    return masked_data(
        spec,
        {part: MaskedPictures(source, keys) for part, keys in parts.items()},
        classes,
        size,
        augment,
        channels=channels,
        brightest=pictures.brightest,
        digest=digest.hexdigest(),
        notes=[*notes, *pictures.notes],
    )
