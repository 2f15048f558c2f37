"""``coco:PATH``: pictures and JSON files with their objects, as COCO (arXiv 1405.0312) has them.

As it is distributed: ``annotations/instances_train2017.json`` and ``..._val2017.json``, the pictures in folders
``train2017`` and ``val2017``, or below ``images/``. Or simpler: folders ``train``, ``val`` and perhaps ``test``, and
beside each a JSON file of its name, or in it ``annotations.json`` or ``_annotations.coco.json``. Objects are polygons
or run lengths; crowds are neither learned nor counted against a model.

Every file is looked at before a run starts, so that a fault is told with its file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from scansearch.data.augment import Augment
from scansearch.data.instances.annotations import Annotations, Photograph, read_annotations
from scansearch.data.instances.pictures import Scene, ScenePictures, scene_data
from scansearch.data.instances.run_lengths import coco_masks, decode_mask
from scansearch.data.masks.folders import upright_sides
from scansearch.data.masks.parts import parts_to_score, parts_to_train
from scansearch.data.names import PARTS, PartName, counted, listed, part_called
from scansearch.data.pictures import Decoder, FolderSource, Pictures, look_at
from scansearch.data.splits import ImageData
from scansearch.errors import InputError

_PREFIX = "instances_"
_INSIDE = ("annotations.json", "_annotations.coco.json")


@dataclass(frozen=True)
class CocoScenes:
    """Photographs below ``root``; a key is a :class:`Photograph`."""

    root: str
    categories: tuple[int, ...]
    decoder: Decoder = field(default_factory=Decoder)

    def scene(self, key: Photograph, *, scored: bool) -> Scene:
        objects = [one for one in key.objects if not one["iscrowd"]]
        masks = [decode_mask(one["segmentation"], key.height, key.width) for one in objects]
        place = {number: label for label, number in enumerate(self.categories)}
        return Scene(
            self.decoder.read(FolderSource(self.root), key.file),
            np.stack(masks) if masks else np.zeros((0, key.height, key.width), dtype=np.uint8),
            [place[one["category_id"]] for one in objects],
            key.objects if scored else (),
        )

    def identity(self, key: Photograph) -> int:
        return key.number

    def name(self, key: Photograph) -> str:
        return str(Path(self.root, key.file))


def read(
    argument: str,
    size: tuple[int, int],
    augment: Augment,
    *,
    channels: int,
    scoring: bool = False,
    brightest: float | None = None,
) -> ImageData:
    """The data of ``coco:PATH``.

    Raises:
        InputError: no such folder, or a fault in a file, which it names.
    """
    coco_masks()
    root = Path(argument).expanduser()
    if not root.is_dir():
        raise InputError(f"data folder {str(root)!r} does not exist")
    spec = f"coco:{argument}"
    read_parts = {part: read_annotations(*where, root) for part, where in _find(root).items()}
    categories = _common_categories(read_parts)
    notes = [note for one in read_parts.values() for note in one.notes]
    given = {part: list(one.photographs) for part, one in read_parts.items()}
    photographs = [one for part in given.values() for one in part]
    _check_pictures(root, photographs)
    parts = parts_to_score(given, notes) if scoring else parts_to_train(given, notes, spec)
    for part, keys in parts.items():
        if keys and not any(not one["iscrowd"] for key in keys for one in key.objects):
            raise InputError(f"{spec!r} has no object on the {counted(len(keys), 'picture')} of {part}")
    every = [
        Pictures([0] * len(keys), [key.file for key in keys], FolderSource(str(root)))
        for keys in parts.values()
    ]
    looked = look_at(every, channels, brightest)
    source = CocoScenes(str(root), tuple(categories), looked.decoder)
    return scene_data(
        spec,
        {part: ScenePictures(source, keys) for part, keys in parts.items()},
        tuple(categories.values()),
        size,
        augment,
        channels=channels,
        brightest=looked.brightest,
        digest=_digest(read_parts, parts, looked.contents),
        notes=[*notes, *looked.notes],
    )


def _find(root: Path) -> dict[PartName, tuple[Path, Path]]:
    """Of each split the JSON file and the folder that its pictures are in.

    Raises:
        InputError: there are none, or two for one split.
    """
    found: dict[PartName, tuple[Path, Path]] = {}

    def add(part: PartName, file: Path, folder: Path) -> None:
        if part in found:
            raise InputError(
                f"{str(found[part][0])!r} and {str(file)!r} are both of {part}: keep one of them"
            )
        found[part] = (file, folder)

    for file in sorted((root / "annotations").glob(f"{_PREFIX}*.json")):
        name = file.stem.removeprefix(_PREFIX)
        part = part_called(name.rstrip("0123456789"))
        folders = [root / name, root / "images" / name, root / "images"]
        if part is not None:
            add(part, file, next((folder for folder in folders if folder.is_dir()), folders[0]))
    if not found:
        for part, names in PARTS.items():
            for name in names:
                inside = [root / name / one for one in _INSIDE]
                for file in (root / f"{name}.json", *inside):
                    if file.is_file():
                        add(part, file, root / name)
    if not found:
        raise InputError(
            f"data folder {str(root)!r} holds no annotations/{_PREFIX}train*.json and no train.json beside train/: "
            "coco:PATH needs one of them"
        )
    missing = [str(folder) for _, folder in found.values() if not folder.is_dir()]
    if missing:
        raise InputError(f"picture folder {missing[0]!r} does not exist")
    return found


def _common_categories(parts: Mapping[PartName, Annotations]) -> dict[int, str]:
    """Number -> name of the classes, by their numbers.

    Raises:
        InputError: two files disagree.
    """
    first, *others = parts.values()
    for other in others:
        if other.categories != first.categories:
            raise InputError(f"{other.file} has other categories than {first.file}")
    return dict(sorted(first.categories.items()))


def _check_pictures(root: Path, photographs: Sequence[Photograph]) -> None:
    """
    Raises:
        InputError: naming the first picture that is missing or of another size than its file says.
    """
    missing = [one.file for one in photographs if not (root / one.file).is_file()]
    if missing:
        raise InputError(
            f"{counted(len(missing), 'picture')} that the annotations name are not below {str(root)!r}: "
            f"{listed(missing)}"
        )

    def check(one: Photograph) -> None:
        sides = upright_sides(str(root), one.file)
        if sides is not None and sides != (one.height, one.width):
            raise InputError(
                f"picture {str(root / one.file)!r} is {sides[1]} x {sides[0]} pixels, its annotations say "
                f"{one.width} x {one.height}"
            )

    with ThreadPoolExecutor() as threads:
        list(threads.map(check, photographs))


def _digest(
    read_parts: Mapping[PartName, Annotations],
    parts: Mapping[PartName, Sequence[Photograph]],
    contents: bytes,
) -> str:
    digest = hashlib.sha256(contents)
    for one in read_parts.values():
        digest.update(one.digest)
    for keys in parts.values():
        for key in keys:
            digest.update(f"{key.file}\n".encode(errors="surrogatepass"))
        digest.update(b"\0")
    return digest.hexdigest()
