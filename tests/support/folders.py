"""Reading folders of pictures: what was counted, noted or refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.pictures import made_images

from scansearch.data import ImageData, load_data
from scansearch.errors import InputError


def load(folder: Path, **options: object) -> ImageData:
    return load_data(f"folder:{folder}", image_size=8, **options)  # type: ignore[arg-type]


def counts(data: ImageData) -> tuple[int, int, int]:
    return data.train.count, data.validation.count, data.test.count


def picture(path: Path) -> None:
    """One picture at ``path``, in a format by its extension."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made_images(path.parent / "made", ["x"], 1)
    from PIL import Image

    with Image.open(path.parent / "made" / "x" / "0.png") as image:
        image.save(path)
    shutil.rmtree(path.parent / "made")


def noted(data: ImageData, *parts: str) -> None:
    """One note holds all of ``parts``."""
    assert any(all(part in note for part in parts) for note in data.notes), data.notes
    assert all("\n" not in note for note in data.notes)


def refused(folder: Path, *parts: str, **options: object) -> None:
    """One line that holds all of ``parts``."""
    with pytest.raises(InputError) as error:
        load(folder, **options)
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value), str(error.value)
