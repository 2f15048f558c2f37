"""From a folder to predictions, for every kind of picture: all consumers see the same pixels and logits."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image
from support.commands import call
from support.tiny import TINY_SPACE

import scansearch
from scansearch.exporting import export
from scansearch.records.weights import load_weights

CLASSES = ["bright", "dark", "striped"]
CHANNELS = {"RGB": 3, "grey": 1, "16 bit": 1, "RGBA": 4}
FILES = {
    "safetensors": "exported.safetensors",
    "torch-export": "exported.pt2",
    "onnx": "exported.onnx",
    "hub": "exported-hub",
    "standalone": "exported.py",
    "timm": "registered_here.py",
}


def picture(kind: str, label: int, rng: np.random.Generator) -> Image.Image:
    """20 x 31 pixels whose class can be seen."""
    grey = rng.uniform(0.0, 0.4, (20, 31)) + (0.5, 0.0, 0.25)[label]
    if label == 2:
        grey[::4] = 1.0
    if kind == "16 bit":
        return Image.fromarray((grey * 65_535).clip(0, 65_535).astype(np.uint16))
    flat = (grey * 255).clip(0, 255).astype(np.uint8)
    if kind == "grey":
        return Image.fromarray(flat)
    planes = [flat, flat[::-1], 255 - flat] + ([np.full_like(flat, 200)] if kind == "RGBA" else [])
    return Image.fromarray(np.stack(planes, 2), "RGBA" if kind == "RGBA" else "RGB")


@pytest.mark.parametrize(
    "kind", [kind if kind == "16 bit" else pytest.param(kind, marks=pytest.mark.long) for kind in CHANNELS]
)
@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
def test_all_consumers_agree(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(12):
            picture(kind, label, rng).save(tmp_path / "images" / name / f"{number}.png")
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(TINY_SPACE))
    search, training = tmp_path / "search", tmp_path / "training"
    for command in (
        ["run", "--space", str(tmp_path / "space.yaml"), "--k", "2", "--data", str(tmp_path / "images"),
         "--channels", str(CHANNELS[kind]), "--image-size", "8x12", "--epochs", "1", "--out", str(search)],
        ["train", str(search), "--epochs", "3", "--out", str(training)],
    ):  # fmt: skip
        code, _, error = call(capsys, *command, "--batch-size", "8", "--device", "cpu", "--quiet")
        assert code == 0, error
    weights = load_weights(training / "best.safetensors")
    assert weights.model.in_chans == CHANNELS[kind]
    scores = json.loads((training / "result.json").read_text())["test"]

    files = sorted((tmp_path / "images").glob("*/*.png"))
    original = scansearch.load(training)
    images = torch.stack([original.transform(Image.open(file)) for file in files])
    assert images.shape == (36, CHANNELS[kind], 8, 12)
    assert images.flatten(1).std(1).min() > 0.05, "a picture has become one flat colour"
    with torch.no_grad():
        logits = original.model(images)

    for format, name in FILES.items():
        export(training, format, tmp_path / name)
    for format in ("safetensors", "torch-export", "onnx", "hub"):
        subject = tmp_path / FILES[format]
        loaded = scansearch.load(subject)
        assert loaded.classes == tuple(CLASSES)
        assert torch.equal(torch.stack([loaded.transform(Image.open(file)) for file in files]), images)
        with torch.no_grad():
            torch.testing.assert_close(loaded.model(images), logits, atol=1e-6, rtol=1e-6)
        again = scansearch.evaluate(subject, data=str(tmp_path / "images"), device="cpu")
        assert again.top1 == scores["top1"], format
        code, out, error = call(
            capsys,
            "predict",
            str(subject),
            str(tmp_path / "images" / "dark"),
            "--json",
            "--top",
            "1",
            "--device",
            "cpu",
        )
        assert code == 0, error
        expected = [CLASSES[int(row.argmax())] for row in logits[12:24]]
        assert [row["classes"][0]["class"] for row in json.loads(out)] == expected

    alone = runpy.run_path(str(tmp_path / FILES["standalone"]))
    model = alone["build"]().eval()
    model.load_state_dict(weights.model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(
            model(images), logits, atol=1e-5, rtol=1e-5
        )  # another order of float32 sums
        exact = original.model.double()(images.double())
        torch.testing.assert_close(model.double()(images.double()), exact, atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(logits.double(), exact, atol=2e-6, rtol=2e-6)
    assert alone["PICTURES"]["classes"] == CLASSES
    assert alone["PICTURES"]["size"] == (8, 12)
    assert alone["PICTURES"]["mean"] == pytest.approx(weights.treatment.mean)

    name = f"exported_{CHANNELS[kind]}_{kind.split()[-1].lower()}"
    text = (tmp_path / FILES["timm"]).read_text().replace("registered_here", name)
    (tmp_path / f"{name}.py").write_text(text)
    settings = _default_settings(tmp_path / f"{name}.py", name)
    assert settings["label_names"] == CLASSES
    assert settings["input_size"] == (CHANNELS[kind], 8, 12)
    assert settings["std"] == pytest.approx(weights.treatment.std)
    if kind in ("RGB", "grey"):  # timm's own pictures, where Pillow's conversion is right
        transform = timm.data.create_transform(**timm.data.resolve_data_config(settings), is_training=False)
        theirs = torch.stack([transform(Image.open(file)) for file in files])
        assert torch.equal(theirs, images)


def _default_settings(path: Path, name: str) -> dict[str, object]:
    import importlib.util
    import sys

    specification = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return dict(timm.create_model(name).pretrained_cfg)
