"""Hub folders of unknown origin: read from config.json and model.safetensors alone, and refused in one line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import scansearch
from scansearch.errors import InputError
from scansearch.evaluation.hub_folder import load_hub_folder
from scansearch.models import build_model
from scansearch.records.genotype import Genotype

MODEL: dict[str, Any] = {"img_size": 8, "patch_size": 2, "embed_dim": 8, "states": 2, "rope": False}


class Touch:
    """Unpickled, it creates the file MARK in the working folder."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch MARK",))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An honest folder of 4 classes, in the working folder."""
    genotype = Genotype.model_validate({"family": "local_vim", "layers": [["h", "w2"]], "model": MODEL})
    genotype.save(tmp_path / "genotype.yaml")
    scansearch.export(tmp_path / "genotype.yaml", "hub", tmp_path / "hub", num_classes=4)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub"


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def test_an_honest_folder_and_one_that_timm_wrote_give_the_model(folder: Path) -> None:
    images = torch.randn(2, 3, 8, 8)
    tensors = load_file(folder / "model.safetensors")
    model = build_model("local_vim", [["h", "w2"]], num_classes=4, **MODEL).eval()
    model.load_state_dict(tensors)
    hub = load_hub_folder(folder)
    assert (hub.channels, hub.treatment.image_size) == (3, (8, 8))
    torch.testing.assert_close(hub.model(images), model(images))
    save_file(tensors, folder / "model.safetensors")  # as timm saves: no header of ours
    torch.testing.assert_close(load_hub_folder(folder).model(images), model(images))


def test_a_pickle_is_never_read(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "open_clip_pytorch_model.bin", "model.pth"):
        torch.save(Touch(), folder / name)
    with pytest.raises(InputError, match=r"has no model\.safetensors"):
        load_hub_folder(folder)
    assert not Path("MARK").exists()


CONFIGS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "huge width": (lambda config: config["model_args"].update(embed_dim=10**9), "must be at most"),
    "huge image": (lambda config: config["model_args"].update(img_size=10**9), "must be at most"),
    "many layers": (lambda config: config["model_args"].update(directions=[["h"]] * 5000), "is the most"),
    "text for a number": (lambda config: config["model_args"].update(patch_size="8"), "patch_size"),
    "list for a number": (lambda config: config["model_args"].update(embed_dim=[8]), "embed_dim"),
    "no directions": (lambda config: config["model_args"].pop("directions"), "names no directions"),
    "odd directions": (lambda config: config["model_args"].update(directions=[[]]), "direction"),
    "unknown direction": (lambda config: config["model_args"].update(directions=[["up"]]), "up"),
    "unknown argument": (lambda config: config["model_args"].update(exec="x"), "no argument 'exec'"),
    "another architecture": (lambda config: config.update(architecture="resnet50"), "is not scansearch's"),
    "a list as architecture": (lambda config: config.update(architecture=[]), "architecture"),
    "other weights": (lambda config: config["model_args"].update(embed_dim=12), "do not fit"),
    "no size": (lambda config: config["pretrained_cfg"].update(input_size=[3]), "input_size"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_odd_configurations_are_refused_in_one_line(case: str, folder: Path) -> None:
    change, message = CONFIGS[case]
    edit(folder, change)
    with pytest.raises(InputError) as refused:
        load_hub_folder(folder)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_flipped_bit_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="checksum does not match"):
        load_hub_folder(folder)
