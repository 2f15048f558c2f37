"""One JSON file of COCO's form, checked: everything that a run would meet later is told here, with the file."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, cast

from scansearch.data.instances.run_lengths import plain_lengths
from scansearch.data.names import counted
from scansearch.errors import InputError
from scansearch.files.regular import check_regular
from scansearch.text import printable

_LARGEST_SIDE = 100_000
_KEPT = ("category_id", "bbox", "area", "iscrowd", "segmentation")


class Photograph(NamedTuple):
    """One picture, and its objects as annotations of COCO, without those that the other fields tell.

    Attributes:
        file: relative to the data folder.
    """

    number: int
    file: str
    height: int
    width: int
    objects: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Annotations:
    """The content of one file.

    Attributes:
        categories: number -> name.
        digest: of the file's bytes.
    """

    file: Path
    photographs: tuple[Photograph, ...]
    categories: dict[int, str]
    notes: tuple[str, ...]
    digest: bytes


class _Fault(Exception):
    """What is wrong with a file."""


def read_annotations(file: Path, folder: Path, root: Path) -> Annotations:
    """The content of ``file``, whose pictures are in ``folder`` below ``root``.

    Objects of no area are left out, with a note.

    Raises:
        InputError: naming the file and its first fault.
    """
    try:
        check_regular(file)
        content = file.read_bytes()
        photographs, categories, empty = _checked(json.loads(content), folder.relative_to(root).as_posix())
    except _Fault as fault:
        raise InputError(f"{file}: {printable(str(fault))}") from None
    except InputError:
        raise
    except (ValueError, RecursionError, OSError) as error:
        raise InputError(f"{file}: no JSON file that can be read ({' '.join(str(error).split())})") from None
    notes = []
    if empty:
        left_out = f"{counted(len(empty), 'object')} of no area, the first annotation {empty[0]}"
        notes.append(f"{file}: left out {left_out}")
    return Annotations(file, photographs, categories, tuple(notes), hashlib.sha256(content).digest())


def _checked(data: Any, folder: str) -> tuple[tuple[Photograph, ...], dict[int, str], list[int]]:
    """Photographs, categories, and the numbers of the objects of no area.

    Raises:
        _Fault: in words.
    """
    if not isinstance(data, dict):
        raise _Fault(f"expected images, annotations and categories, found {type(data).__name__}")
    for name in ("images", "annotations", "categories"):
        entries = data.get(name)
        if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
            raise _Fault(f"{name} is missing, or no list of objects")
    categories = _categories(data["categories"])
    images = _images(data["images"], folder)
    objects: dict[int, list[dict[str, Any]]] = {number: [] for number in images}
    empty = []
    for index, entry in enumerate(data["annotations"]):
        number = entry.get("id", index)
        try:
            where = entry.get("image_id")
            if type(where) is not int or where not in images:
                raise _Fault(f"image_id {where!r} is no image")
            image = images[where]
            kept = _object(entry, image, categories)
        except _Fault as fault:
            raise _Fault(f"annotation {number}: {fault}") from None
        if kept is None:
            empty.append(number)
        else:
            objects[image.number].append(kept)
    photographs = tuple(image._replace(objects=tuple(objects[number])) for number, image in images.items())
    return photographs, categories, empty


def _categories(entries: Sequence[dict[str, Any]]) -> dict[int, str]:
    categories: dict[int, str] = {}
    for entry in entries:
        number, name = entry.get("id"), entry.get("name")
        if type(number) is not int or not isinstance(name, str) or not name:
            raise _Fault(f"a category needs a number and a name, found {number!r} and {name!r}")
        if number in categories or name in categories.values():
            raise _Fault(f"category {number} ({name}) stands there twice")
        categories[number] = name
    if not categories:
        raise _Fault("there are no categories")
    return categories


def _images(entries: Sequence[dict[str, Any]], folder: str) -> dict[int, Photograph]:
    images: dict[int, Photograph] = {}
    for entry in entries:
        number, name = entry.get("id"), entry.get("file_name")
        if type(number) is not int or number < 0 or not isinstance(name, str) or not name:
            raise _Fault(f"an image needs a number and a file_name, found {number!r} and {name!r}")
        if number in images:
            raise _Fault(f"image {number} stands there twice")
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
            raise _Fault(f"image {number}: file_name {name!r} leads out of the folder")
        height, width = (cast(int, entry.get(side)) for side in ("height", "width"))  # checked below
        for side in (height, width):
            if type(side) is not int or not 1 <= side <= _LARGEST_SIDE:
                raise _Fault(f"image {number}: {side!r} is no side of a picture")
        images[number] = Photograph(number, str(PurePosixPath(folder, path)), height, width, ())
    if not images:
        raise _Fault("there are no images")
    return images


def _object(entry: dict[str, Any], image: Photograph, categories: dict[int, str]) -> dict[str, Any] | None:
    """What is kept of an annotation; None of one of no area."""
    category = entry.get("category_id")
    if type(category) is not int or category not in categories:
        raise _Fault(f"category_id {category!r} is no category")
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
        raise _Fault(f"bbox {box!r} is not [left, top, width, height]")
    left, top, width, height = box
    if width < 0 or height < 0:
        raise _Fault(f"bbox {box} has a negative side")
    if width == 0 or height == 0:
        return None
    if left >= image.width or top >= image.height or left + width < 0 or top + height < 0:
        raise _Fault(f"bbox {box} lies outside of its picture of {image.width} x {image.height} pixels")
    if entry.get("iscrowd", 0) not in (0, 1):
        raise _Fault(f"iscrowd {entry.get('iscrowd')!r} is neither 0 nor 1")
    segmentation = _segmentation(entry.get("segmentation"), image)
    if not segmentation:
        return None
    area = entry.get("area", width * height)
    if not _is_number(area) or area < 0:
        raise _Fault(f"area {area!r} is no area")
    kept = {"area": area, "iscrowd": entry.get("iscrowd", 0), "segmentation": segmentation}
    return {name: kept.get(name, entry.get(name)) for name in _KEPT}


def _segmentation(segmentation: Any, image: Photograph) -> Any:
    """``segmentation`` without polygons of fewer than three corners, which have no area."""
    if isinstance(segmentation, list):
        reach = 2 * max(image.height, image.width)
        for polygon in segmentation:
            plain = isinstance(polygon, list) and len(polygon) % 2 == 0
            if not plain or not all(_is_number(value) and abs(value) <= reach for value in polygon):
                raise _Fault("a polygon needs x and y of every corner, near its picture")
        return [polygon for polygon in segmentation if len(polygon) >= 6]
    if not isinstance(segmentation, dict) or segmentation.get("size") != [image.height, image.width]:
        raise _Fault(
            f"segmentation is neither polygons nor run lengths of size {[image.height, image.width]}"
        )
    counts = segmentation.get("counts")
    if isinstance(counts, str):
        try:
            counts = plain_lengths(counts)
        except ValueError as error:
            raise _Fault(f"run lengths cannot be read: {error}") from None
    if not isinstance(counts, list):
        raise _Fault("segmentation has no counts")
    plain = all(type(run) is int and run >= 0 for run in counts)
    if not plain or sum(counts) != image.height * image.width:
        raise _Fault("run lengths do not add up to the pixels of the picture")
    return segmentation


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
