"""The brightest value of float pictures is one for a model's whole life, whatever pictures come later."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from support.commands import call
from support.tiny import TINY_SPACE
from support.trainings import tiny_genotype

import scansearch
from scansearch.data import load_data
from scansearch.data.pictures import FolderSource, Pictures, look_at
from scansearch.data.treatment import Treatment
from scansearch.errors import InputError
from scansearch.evaluation.predictors import open_predictor
from scansearch.exporting import export
from scansearch.records.genotype import Genotype
from scansearch.records.weights import load_weights

TOP = 255.0


def float_pictures(folder: Path, most: float, each: int = 12) -> Path:
    """Two classes of float pictures with values from 0 to ``most``."""
    rng = np.random.default_rng(0)
    for name in ("dark", "light"):
        (folder / name).mkdir(parents=True)
        for i in range(each):
            values = most * rng.random((9, 9), dtype=np.float32) * (0.5 if name == "dark" else 1)
            Image.fromarray(values).save(folder / name / f"{i}.tif")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A training on pictures up to 255, beside ones that never exceed 1."""
    folder = tmp_path_factory.mktemp("brightest")
    images = float_pictures(folder / "images", TOP)
    float_pictures(folder / "dim", 0.9)
    scansearch.train(
        tiny_genotype(), data=f"folder:{images}", out=folder / "run", epochs=1, batch_size=8, device="cpu", channels=1
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def subjects(trained: Path) -> list[Path]:
    pytest.importorskip("onnx")
    files = {"safetensors": "x.safetensors", "torch-export": "x.pt2", "onnx": "x.onnx", "hub": "hub"}
    for name, file in files.items():
        export(trained / "run", name, trained / file)
    return [trained / "run", *(trained / file for file in files.values())]


def test_every_file_of_the_model_tells_it(subjects: list[Path]) -> None:
    for subject in subjects:
        treatment = open_predictor(subject, torch.device("cpu")).treatment
        assert treatment is not None
        assert treatment.brightest == TOP, subject
        assert scansearch.load(subject).transform.brightest == TOP


def test_a_standalone_file_tells_it(trained: Path) -> None:
    export(trained / "run", "standalone", trained / "model.py")
    specification = importlib.util.spec_from_file_location("told", trained / "model.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    assert module.PICTURES["brightest"] == TOP


def test_dim_pictures_keep_the_scale_of_the_training(trained: Path, subjects: list[Path]) -> None:
    dim, size = f"folder:{trained / 'dim'}", (8, 8)
    treatment = load_weights(trained / "run" / "best.safetensors").treatment
    own = load_data(dim, image_size=size, channels=1, scoring=True)
    ours = load_data(dim, image_size=size, channels=1, scoring=True, brightest=TOP)
    assert (own.brightest, ours.brightest) == (1.0, TOP)
    assert any("divided by 255, as in the training" in note for note in ours.notes)
    black = (0.0 - treatment.mean[0]) / treatment.std[0]
    pixels = torch.stack([ours.test.read(i)[0] for i in range(ours.test.count)])
    assert (pixels - black).abs().max() < 0.02  # all but black beside 255
    assert own.test.read(0)[0].std() > 0.1
    expected = scansearch.evaluate(trained / "run", data=dim, device="cpu")
    model = scansearch.load(trained / "run").model
    with torch.no_grad():
        logits = model(pixels)
    labels = torch.tensor(ours.test.labels)
    assert expected.loss == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), abs=1e-5)
    for subject in subjects:
        scores = scansearch.evaluate(subject, data=dim, device="cpu")
        assert scores.loss == pytest.approx(expected.loss, abs=1e-5), subject


def test_load_and_predict_keep_it(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = trained / "dim" / "light" / "0.tif"
    ours = load_data(f"folder:{trained / 'dim'}", image_size=(8, 8), channels=1, scoring=True, brightest=TOP)
    index = next(i for i, label in enumerate(ours.test.labels) if label == 1)
    loaded = scansearch.load(trained / "run")
    image = loaded.transform(Image.open(file))
    torch.testing.assert_close(image, ours.test.read(index)[0])
    with torch.no_grad():
        shares = loaded.model(image[None]).double().softmax(1)[0].tolist()
    code, out, error = call(capsys, "predict", str(trained / "run"), str(file), "--json")
    assert code == 0, error
    told = {entry["class"]: entry["probability"] for entry in json.loads(out)[0]["classes"]}
    assert [told["dark"], told["light"]] == pytest.approx(shares, abs=1e-9)


def test_a_search_writes_it_into_its_genotype(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (trained / "space.yaml").write_text(yaml.safe_dump(TINY_SPACE))
    code, _, error = call(
        capsys, "run", "--space", str(trained / "space.yaml"), "--k", "1", "--data", f"folder:{trained / 'images'}",
        "--epochs", "1", "--batch-size", "8", "--out", str(trained / "search"), "--quiet",
    )  # fmt: skip
    assert code == 0, error
    assert Genotype.load(trained / "search" / "genotype.yaml").provenance.treatment.brightest == TOP


def test_without_it_pictures_are_scaled_by_their_own(trained: Path) -> None:
    """Files of earlier versions, and models whose training met no such pictures."""
    every = sorted(str(path) for path in (trained / "dim").glob("*/*.tif"))
    pictures = Pictures([0] * len(every), every, FolderSource("."))
    assert look_at([pictures], 1).decoder.scale == 1.0
    assert look_at([pictures], 1, TOP).decoder.scale == TOP
    old = Treatment.model_validate({"image_size": [8, 8]})
    assert old.brightest is None
    from scansearch.data.transform import picture_transform

    picture = Image.open(every[-1])
    assert picture_transform(old, 1, (8, 8))(picture).std() > 0.1
    rgb = load_data("fake:8x8:2", image_size=8)
    assert rgb.treatment.brightest is None


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan"), "255"])
def test_a_false_value_is_refused(value: object) -> None:
    from scansearch.files.strict import validate

    with pytest.raises(InputError, match="brightest"):
        validate({"image_size": [8, 8], "brightest": value}, Treatment, source="treatment")
