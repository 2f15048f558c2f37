"""A model with its transform and classes: what `load` and `predict` see is what `evaluate` sees, for any picture."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.commands import call

import scansearch
from scansearch.data.augment import Augment, image_statistics
from scansearch.data.treatment import Treatment
from scansearch.errors import InputError
from scansearch.evaluation.predictions import Prediction, pictures_in, predict
from scansearch.models.backbone import ScanBackbone
from scansearch.records.genotype import Genotype
from scansearch.records.weights import load_weights, save_weights

SIZE = (8, 12)
CLASSES = ("float", "grey", "opaque", "rgb", "turned", "wide")


def made_model(path: Path, channels: int = 3, treatment: Treatment | None = None) -> Path:
    """A weight file of a model with random weights, for images of 8x12 pixels."""
    torch.manual_seed(channels)
    genotype = Genotype.model_validate(
        {
            "family": "local_vim",
            "layers": [["h", "w2"]],
            "model": {"img_size": 8, "patch_size": 2, "embed_dim": 8, "states": 2, "rope": False},
        }
    )
    arguments = {"num_classes": len(CLASSES), "in_chans": channels, "img_size": list(SIZE)}
    model = genotype.build(**{**arguments, "img_size": SIZE})
    torch.nn.init.normal_(model.head.weight)  # logits that differ
    if treatment is None:
        mean, std = image_statistics(channels)
        augment = Augment(crop=0.7, interpolation="bicubic", flip=0.5)
        treatment = Treatment(image_size=SIZE, classes=CLASSES, mean=mean, std=std, augment=augment)
    save_weights(path, model, genotype, arguments, {}, treatment)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """One class folder for each kind of picture, with two of them in it."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for i in range(2):
            height, width = 21 + i, 17
            colour = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
            opacity = rng.integers(0, 255, (height, width, 1), dtype=np.uint8)
            values = rng.integers(0, 65535, (height, width), dtype=np.uint16)
            picture, options = {
                "rgb": (colour, {}),
                "grey": (colour[..., 0], {}),
                "wide": (values, {}),
                "opaque": (np.concatenate([colour, opacity], axis=2), {}),
                "turned": (colour, {}),
                "float": (values.astype(np.float32) / 65535, {}),
            }[name]
            image, suffix = Image.fromarray(picture), "tif" if name == "float" else "png"
            if name == "turned":
                exif = Image.Exif()
                exif[0x0112] = 6
                options = {"exif": exif}
            image.save(folder / name / f"{i}.{suffix}", **options)
    return folder


def evaluated_logits(model: Path, folder: Path) -> torch.Tensor:
    """What `evaluate` computed, in the order of classes and names."""
    logits: list[torch.Tensor] = []

    def note(module: torch.nn.Module, _: object, output: torch.Tensor) -> None:
        if isinstance(module, ScanBackbone):
            logits.append(output.detach())

    handle = torch.nn.modules.module.register_module_forward_hook(note)
    try:
        assert scansearch.evaluate(model, data=f"folder:{folder}", device="cpu").images == 12
    finally:
        handle.remove()
    return torch.cat(logits)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_loaded_models_compute_what_evaluate_computes(channels: int, tmp_path: Path, pictures: Path) -> None:
    file = made_model(tmp_path / "w.safetensors", channels)
    expected = evaluated_logits(file, pictures)
    loaded = scansearch.load(file)
    assert (loaded.classes, loaded.image_size, loaded.model.training) == (CLASSES, SIZE, False)
    files = sorted(pictures.glob("*/*"))
    with torch.no_grad():
        images = [loaded.transform(Image.open(path)) for path in files]
        logits = loaded.model(torch.stack(images))
    assert images[0].shape == (channels, *SIZE)
    assert images[0].dtype == torch.float32
    torch.testing.assert_close(logits, expected, atol=1e-6, rtol=0)
    assert logits.std(0).min() > 1e-3, "the pictures are told apart"
    results = list(predict(loaded, pictures_in([pictures]), top=6, batch_size=5))
    assert [result.image for result in results] == [str(path) for path in files]
    for row, result in zip(expected.double().softmax(1), results, strict=True):
        assert isinstance(result, Prediction)
        shares, order = row.sort(descending=True)
        assert result.probabilities == pytest.approx(shares.tolist(), abs=1e-6)
        assert result.classes == tuple(CLASSES[i] for i in order.tolist())


@pytest.mark.parametrize("mean", [(0.2, 0.3, 0.4), None])
def test_statistics_of_the_training_are_used_as_evaluate_uses_them(
    mean: tuple[float, ...] | None, tmp_path: Path, pictures: Path
) -> None:
    deviation = mean and (0.1, 0.2, 0.3)
    treatment = Treatment(image_size=SIZE, classes=CLASSES, mean=mean, std=deviation)
    file = made_model(tmp_path / "w.safetensors", treatment=treatment)
    loaded = scansearch.load(file)
    files = sorted(pictures.glob("*/*"))
    with torch.no_grad():
        logits = loaded.model(torch.stack([loaded.transform(Image.open(path)) for path in files]))
    torch.testing.assert_close(logits, evaluated_logits(file, pictures), atol=1e-6, rtol=0)


def test_every_export_is_loaded_alike(tmp_path: Path, pictures: Path) -> None:
    file = made_model(tmp_path / "w.safetensors")
    picture = Image.open(pictures / "rgb" / "0.png")
    source = scansearch.load(file)
    with torch.no_grad():
        expected = source.model(source.transform(picture)[None])
    targets = {"torch-export": "x.pt2", "hub": "hub"}
    if find_spec("onnxruntime"):
        targets["onnx"] = "x.onnx"
    for name, out in targets.items():
        scansearch.export(file, name, tmp_path / out)
        loaded = scansearch.load(tmp_path / out)
        assert (loaded.classes, loaded.image_size) == (CLASSES, SIZE)
        assert not loaded.model.training
        with torch.no_grad():
            logits = loaded.model(loaded.transform(picture)[None])
        torch.testing.assert_close(logits, expected, atol=1e-6, rtol=0)


def test_what_a_file_does_not_tell_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = made_model(Path("w.safetensors"), treatment=Treatment(image_size=SIZE))
    with pytest.raises(InputError, match=r"^w.safetensors does not tell which classes .*: export it from"):
        scansearch.load(file)
    many = Treatment(image_size=SIZE, classes=CLASSES, mean=(0.5,) * 5, std=(0.5,) * 5)
    loaded = scansearch.load(made_model(file, channels=5, treatment=many))
    assert loaded.transform is loaded.arrays
    with pytest.raises(InputError, match="has 3 channels, not 5"):
        loaded.transform(np.zeros((9, 9, 3), np.uint8))
    weights = load_weights(made_model(file))
    save_weights(file, weights.model, weights.genotype, weights.arguments, {})
    with pytest.raises(InputError, match=r"does not tell what its images were in the training"):
        scansearch.load(file)
    with pytest.raises(InputError, match="'vim8' is a search space, but load takes"):
        scansearch.load("vim8")


def test_predict_shows_the_likeliest_and_names_what_cannot_be_read(
    tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(made_model(tmp_path / "w.safetensors"))
    code, out, err = call(capsys, "predict", file, str(pictures), "--top", "2", "--device", "cpu")
    assert (code, err) == (0, "")
    assert out.count("%") == 2 * 12
    broken, missing = pictures / "rgb" / "broken.png", pictures / "none.png"
    broken.write_text("no picture")
    chosen = [str(pictures / "rgb"), str(missing), str(pictures / "grey" / "0.png")]
    code, out, err = call(capsys, "predict", file, *chosen, "--json", "--device", "cpu")
    assert code == 1
    rows = {Path(row["image"]): row for row in json.loads(out)}
    assert len(rows) == 5
    assert "holds no picture" in rows[broken]["error"]
    assert "No such file" in rows[missing]["error"]
    good = [row["classes"] for row in rows.values() if "classes" in row]
    assert len(good) == 3
    assert all(len(row) == 5 and row[0]["probability"] >= row[1]["probability"] for row in good)
    lines = err.strip().splitlines()
    assert len(lines) == 3
    assert str(broken) in err
    assert lines[-1] == "error: 2 of 5 images could not be read"


def test_bad_input_to_predict_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(made_model(tmp_path / "w.safetensors"))
    (tmp_path / "empty").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    for arguments, message in (
        ([file, str(tmp_path / "empty")], "holds no pictures"),
        ([file, str(tmp_path / "a.png"), "--top", "0"], "top and batch size must be at least 1"),
        (["localvim_tiny", str(tmp_path / "a.png")], "is a published model, but predict takes"),
    ):
        code, out, err = call(capsys, "predict", *arguments, "--device", "cpu")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert message in err


def test_data_without_pictures_of_their_own_have_pictures_resized_alone(tmp_path: Path) -> None:
    treatment = Treatment(image_size=SIZE, classes=CLASSES, mean=(0.3,), std=(0.4,))
    transform = scansearch.load(made_model(tmp_path / "w.safetensors", 1, treatment)).transform
    values = np.full((16, 24), 255, np.uint8)
    values[0], values[-1], values[:, 0], values[:, -1] = 0, 0, 0, 0  # a frame, which a crop would cut off
    image = transform(Image.fromarray(values))[0] * 0.4 + 0.3
    assert max(image[0].max(), image[-1].max(), image[:, 0].max(), image[:, -1].max()) < 0.9
    assert image[1:-1, 1:-1].min() > 0.9
