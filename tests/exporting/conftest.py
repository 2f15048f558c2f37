"""Two small genotypes, one per family, with directions that the standalone files compute and one that they tabulate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from scansearch.records.genotype import Genotype

VIM: dict[str, Any] = {"img_size": 12, "patch_size": 2, "embed_dim": 8, "states": 2, "drop_path_rate": 0.1}
VMAMBA: dict[str, Any] = {"dims": [8, 16], "depths": [1, 1], "patch_size": 2, "img_size": 12, "states": 2}
LAYERS = [["h", "v_flip", "w4"], ["w4_flip", "hilbert_flip"]]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(20240314)


@pytest.fixture(scope="session")
def genotypes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The genotype file of each family."""
    folder = tmp_path_factory.mktemp("genotypes")
    files = {}
    for family, model in (("local_vim", VIM), ("local_vmamba", VMAMBA)):
        files[family] = folder / f"{family}.yaml"
        Genotype.model_validate({"family": family, "layers": LAYERS, "model": model}).save(files[family])
    return files
