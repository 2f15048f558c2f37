"""Gratings at 45 and 135 degrees, which a mirror turns into each other: the default treatment keeps them apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import scansearch
from scansearch.records.baselines import baseline_genotype

SIZE = 28


def gratings(folder: Path, each: dict[str, int]) -> Path:
    """Grey pictures of diagonal stripes, of any period from 5 to 9 pixels and any phase."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    for split, count in each.items():
        for name, sign in (("falling", -1), ("rising", 1)):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                turns = (rows + sign * columns) / np.sqrt(2) / rng.uniform(5, 9) + rng.random()
                waves = 127.5 + 90 * np.sin(2 * np.pi * turns) + rng.normal(0, 15, turns.shape)
                Image.fromarray(waves.clip(0, 255).astype(np.uint8)).save(
                    folder / split / name / f"{number}.png"
                )
    return folder


@pytest.mark.long
@pytest.mark.parametrize(
    ("settings", "apart"), [((), True), (("augment.flip=0.5",), False)], ids=["as is", "mirror"]
)
def test_a_mirror_decides_whether_diagonals_can_be_told_apart(
    settings: tuple[str, ...], apart: bool, tmp_path
) -> None:
    data = f"folder:{gratings(tmp_path / 'images', {'train': 100, 'val': 20, 'test': 50})}"
    result = scansearch.train(
        baseline_genotype("uniform:vmamba4", "vim8"), data=data, channels=1, image_size=SIZE, epochs=12, batch_size=20,
        device="cpu", out=tmp_path / "run", progress=False, settings=settings,
    )  # fmt: skip
    assert result.test.top1 >= 95 if apart else result.test.top1 <= 75, result.test.top1
