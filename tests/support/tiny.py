"""A search space small enough that a search takes seconds."""

from __future__ import annotations

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
