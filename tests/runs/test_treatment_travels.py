"""One geometry and one treatment from the search to the hand-over: every consumer sees the same pixels and classes."""

from __future__ import annotations

import contextlib
import io
import json

import pytest
import torch
import yaml
from support.pictures import made_images
from support.tiny import TINY_SPACE

from scansearch.cli import main
from scansearch.data import load_data
from scansearch.evaluation.evaluate import evaluate
from scansearch.evaluation.predictors import open_predictor
from scansearch.exporting import export
from scansearch.records.genotype import Genotype
from scansearch.records.weights import load_weights

CLASSES = ["cat", "dog", "owl"]


def command(*arguments) -> tuple[int, str]:
    """Exit code and standard error; for fixtures of a whole module, which capsys does not serve."""
    error = io.StringIO()
    with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            return int(stop.code or 0), error.getvalue()
    return 0, error.getvalue()


@pytest.fixture(scope="module")
def journey(tmp_path_factory):
    """A search at 8x12 pixels without mirror images, and the training of its genotype with nothing said."""
    folder = tmp_path_factory.mktemp("journey")
    made_images(folder / "images", CLASSES, 12, size=(20, 17))
    (folder / "space.yaml").write_text(yaml.safe_dump(TINY_SPACE))
    code, error = command(
        "run", "--space", folder / "space.yaml", "--k", 2, "--data", f"folder:{folder / 'images'}", "--epochs", 1,
        "--batch-size", 8, "--image-size", "8x12", "--set", "augment.crop=0.7", "--out", folder / "search",
    )  # fmt: skip
    assert code == 0, error
    assert "3 classes, 8x12 pixels, random crops of 64 to 100 % of the area, never mirrored" in error
    assert "never learned" in error
    code, error = command(
        "train", folder / "search", "--epochs", 2, "--batch-size", 8, "--out", folder / "training"
    )
    assert code == 0, error
    return folder


def test_the_genotype_keeps_size_and_treatment(journey):
    genotype = Genotype.load(journey / "search" / "genotype.yaml")
    treatment = genotype.provenance.treatment
    assert genotype.model["img_size"] == [8, 12]
    assert treatment.image_size == (8, 12)
    assert treatment.classes == tuple(CLASSES)
    assert treatment.augment.crop == 0.7


def test_a_training_takes_them_from_there(journey):
    config = yaml.safe_load((journey / "training" / "config.yaml").read_text())
    assert config["image_size"] == [8, 12]
    assert config["augment"]["crop"] == 0.7
    result = json.loads((journey / "training" / "result.json").read_text())
    assert result["test"]["image_size"] == [8, 12]


def test_runs_show_what_becomes_of_their_images(journey):
    from PIL import Image

    for run in ("search", "training"):
        with Image.open(journey / run / "plots" / "samples.png") as picture:
            assert min(picture.size) > 100


@pytest.fixture(scope="module")
def exports(journey):
    formats = {"safetensors": "x.safetensors", "torch-export": "x.pt2", "onnx": "x.onnx", "hub": "hub"}
    for name, file in formats.items():
        if name == "onnx":
            pytest.importorskip("onnx")
        export(journey / "training", name, journey / file)
    return [journey / file for file in formats.values()]


def test_every_export_scores_as_the_training_did(journey, exports):
    result = json.loads((journey / "training" / "result.json").read_text())["test"]
    data = f"folder:{journey / 'images'}"
    for subject in (journey / "training", *exports):
        scores = evaluate(subject, data=data, device="cpu")
        assert scores.classes == tuple(CLASSES)
        assert scores.top1 == pytest.approx(result["top1"]), subject
        assert scores.loss == pytest.approx(result["loss"], abs=1e-6), subject
        assert open_predictor(subject, torch.device("cpu")).treatment.augment.crop == 0.7


def test_timm_scores_the_hub_folder_alike(journey, exports):
    import timm
    from PIL import Image

    import scansearch.models  # noqa: F401

    model = timm.create_model(f"local-dir:{journey / 'hub'}", pretrained=True).eval()
    settings = timm.data.resolve_data_config({}, model=model)
    transform = timm.data.create_transform(**settings, is_training=False)
    assert model.pretrained_cfg["label_names"] == CLASSES
    weights = load_weights(journey / "training" / "best.safetensors")
    data = load_data(f"folder:{journey / 'images'}", image_size=(8, 12), augment=weights.treatment.augment)
    images = torch.stack([data.validation.read(i)[0] for i in range(data.validation.count)])
    files = sorted((journey / "images").glob("*/*.png"))
    theirs = [transform(Image.open(file).convert("RGB")) for file in files]
    assert all(any(torch.equal(image, other) for other in theirs) for image in images)
    with torch.no_grad():
        torch.testing.assert_close(model(images), weights.model(images), atol=1e-6, rtol=0)


def test_other_folders_are_scored_by_class_names(journey, tmp_path):
    made_images(tmp_path / "subset" / "train", ["dog", "owl"], 3, size=(20, 17))
    made_images(tmp_path / "subset" / "test", ["dog", "owl"], 3, size=(20, 17))
    scores = evaluate(journey / "training", data=f"folder:{tmp_path / 'subset'}", device="cpu")
    assert scores.classes == tuple(CLASSES)
    assert [sum(row) for row in scores.confusion] == [0, 3, 3]
    made_images(tmp_path / "fruit" / "train", ["apple", "dog"], 3)
    made_images(tmp_path / "fruit" / "test", ["apple", "dog"], 3)
    code, error = command("evaluate", journey / "training", "--data", f"folder:{tmp_path / 'fruit'}")
    assert code == 2
    assert error.count("\n") == 1
    assert "class 'apple', which the model does not know" in error


def test_a_search_with_mirror_images_warns(journey):
    code, error = command(
        "run", "--space", journey / "space.yaml", "--k", 2, "--data", "fake:12x12:3", "--epochs", 1,
        "--augment", "imagenet", "--set", "augment.policy=null", "--set", "weights.warmup_epochs=0",
        "--out", journey / "mirrored",
    )  # fmt: skip
    assert code == 0, error
    assert "mirrored with probability 0.5" in error
    assert "warning: training images were mirrored at times" in error
