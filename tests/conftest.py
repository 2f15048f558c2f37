"""Shared by all tests: a search space small enough that a search takes seconds."""

from __future__ import annotations

import pytest
import torch

from scansearch.spaces import SearchSpace
from scansearch.yaml_io import validate

# Small operations on two threads lose more than they gain, most of all where tests run side by side.
torch.set_num_threads(1)

TINY_SPACE = {
    "schema": 1,
    "name": "tiny-test",
    "family": "local_vim",
    "candidates": ["h", "v", "w2", "v_flip"],
    "default_variant": "micro",
    "variants": {
        "micro": {
            "image_size": 8,
            "depth": 2,
            "backbone": {"patch_size": 2, "states": 2, "expand": 1, "rope": False},
            "supernet": {"embed_dim": 8},
            "derived": {"embed_dim": 8},
        }
    },
}


@pytest.fixture
def tiny_space() -> SearchSpace:
    """Four candidates, two layers, grids of 4x4."""
    return validate(TINY_SPACE, SearchSpace, source="tiny space")


@pytest.fixture
def tiny_space_file(tmp_path) -> str:
    """The same as a file, for the command line."""
    from scansearch.yaml_io import dump_yaml

    path = tmp_path / "tiny-test.yaml"
    path.write_text(dump_yaml(TINY_SPACE))
    return str(path)
