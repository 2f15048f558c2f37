"""Weight files: what is damaged in them is noticed, and files of earlier versions still load."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from scansearch.errors import InputError
from scansearch.models.backbone import ScanBackbone
from scansearch.records.genotype import Genotype
from scansearch.records.weights import load_weights, save_weights

MODEL: dict[str, Any] = {"img_size": 8, "patch_size": 2, "embed_dim": 8, "states": 2, "rope": False}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    genotype = Genotype.model_validate({"family": "local_vim", "layers": [["h", "w2"]], "model": MODEL})
    model = cast("ScanBackbone", genotype.build(num_classes=4))
    path = tmp_path / "weights.safetensors"
    save_weights(path, model, genotype, {"num_classes": 4, "in_chans": 3}, {"data": "digits"})
    return path


def test_every_flipped_bit_is_refused(weights: Path, tmp_path: Path) -> None:
    whole = weights.read_bytes()
    rng = np.random.default_rng(0)
    positions = [*range(0, 8), *rng.integers(8, len(whole), 200).tolist()]
    damaged = tmp_path / "damaged.safetensors"
    accepted = []
    for position in positions:
        content = bytearray(whole)
        content[position] ^= 1 << int(rng.integers(8))
        damaged.write_bytes(content)
        try:
            load_weights(damaged)
        except InputError:
            continue
        accepted.append(position)
    assert accepted == []


def test_a_damaged_name_of_the_digest_does_not_pass_for_none(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes().replace(b'"sha256"', b'"sha257"'))
    with pytest.raises(InputError, match="checksum does not match"):
        load_weights(weights)


def test_files_without_a_digest_still_load(weights: Path) -> None:
    expected = load_weights(weights).model.state_dict()
    with safe_open(weights, framework="pt") as file:
        entries = dict(file.metadata())
    del entries["sha256"]
    save_file(load_file(weights), weights, metadata=entries)
    for name, tensor in load_weights(weights).model.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)
