"""`.npy` files in class folders: any number of channels, read without trust, normalised by their own statistics."""

from __future__ import annotations

import io
import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.commands import call
from support.trainings import tiny_genotype

import scansearch
from scansearch.data import load_data
from scansearch.data.augment import PRESETS, Augment
from scansearch.data.bands import ArrayTransform, read_array
from scansearch.errors import InputError
from scansearch.records.weights import load_weights

BANDS = 13
TYPES = {"uint8": 255, "uint16": 65535, "float32": 1, "float64": 1}


def bands(folder: Path, dtype: str = "uint16", channels: int = BANDS, each: int = 12) -> Path:
    """Two classes of arrays of 9x10 pixels that differ in their last channel."""
    rng = np.random.default_rng(0)
    for name in ("water", "wood"):
        (folder / name).mkdir(parents=True)
        for i in range(each):
            values = rng.random((9, 10, channels)) * np.linspace(0.1, 0.6, channels)
            values[..., -1] += 0.3 * (name == "wood")
            np.save(folder / name / f"{i}.npy", (values * TYPES[dtype]).astype(dtype))
    return folder


@pytest.mark.parametrize("dtype", TYPES)
def test_arrays_are_read_as_numpy_reads_them(dtype: str, tmp_path: Path) -> None:
    folder = bands(tmp_path, dtype)
    data = load_data(
        f"folder:{folder}", image_size=(9, 10), augment=PRESETS["none"].model_copy(update={"crop": 1.0})
    )
    assert (data.channels, data.classes, len(data.mean)) == (BANDS, ("water", "wood"), BANDS)
    assert any(f".npy arrays of {BANDS} channels (9x10 {dtype})" in note for note in data.notes)
    key = data.train.read.files.keys[3]
    expected = np.load(folder / key).astype(np.float64) / TYPES[dtype]
    image, label = data.train.read(3)
    normal = (expected - np.array(data.mean)) / np.array(data.deviation)
    np.testing.assert_allclose(image.numpy(), normal.transpose(2, 0, 1), atol=1e-4)
    assert data.classes[label] == key.split("/")[0]
    every = torch.stack([data.train.read(i)[0] for i in range(data.train.count)])
    torch.testing.assert_close(every.mean((0, 2, 3)), torch.zeros(BANDS), atol=1e-3, rtol=0)
    torch.testing.assert_close(every.std((0, 2, 3)), torch.ones(BANDS), atol=1e-2, rtol=0)


@pytest.mark.parametrize("dtype", [">u2", "<u2", ">f4", "?"])
def test_byte_order_fortran_order_and_two_axes(dtype: str) -> None:
    array = np.asfortranarray(np.arange(12).reshape(3, 4) % 2, dtype=dtype)
    file = io.BytesIO()
    np.save(file, array)
    file.seek(0)
    read = read_array(file)
    assert read.shape == (3, 4, 1)
    np.testing.assert_array_equal(read[..., 0], array)


def header(text: str, content: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text.encode() + content


def described(shape: str, kind: str = "'<u2'") -> str:
    return f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}\n"


class Evil:
    def __reduce__(self):
        return (Path("touched").touch, ())


HOSTILE = {
    "empty": (b"", "no .npy file"),
    "something else": (b"<html>" * 9, "no .npy file"),
    "cut header": (header(described("(4, 4, 2)"))[:20], "no .npy file"),
    "version": (header(described("(4, 4, 2)"), version=b"\x03\x00"), "no .npy file"),
    "huge": (header(described("(100000, 100000, 13)")), "260,000,000,000 bytes, more than"),
    "cut": (header(described("(4, 4, 2)"), bytes(63)), "64 bytes, but holds 63"),
    "negative": (header(described("(4, -4, 2)"), bytes(64)), "shape"),
    "no axis": (header(described("()"), bytes(64)), "shape []"),
    "four axes": (header(described("(1, 2, 2, 2)"), bytes(64)), "is not [height, width]"),
    "empty axis": (header(described("(4, 0, 2)")), "is not [height, width]"),
    "long": (header(described("(1, 101)"), bytes(202)), "more than 100 times"),
    "complex": (header(described("(4, 4)", "'<c8'"), bytes(128)), "of type complex64"),
    "signed": (header(described("(4, 4)", "'<i4'"), bytes(64)), "of type int32"),
    "records": (header(described("(4, 4)", "[('a', '<u2')]"), bytes(64)), "records, not numbers"),
    "pickle": (header(described("(1, 1)", "'|O'"), pickle.dumps(Evil())), "Python objects, not numbers"),
    "nested": (header("(" * 5000), "no .npy file"),
    "code": (header("__import__('pathlib').Path('touched').touch()\n"), "no .npy file"),
}


@pytest.mark.parametrize(("content", "message"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_array_is_named_in_one_line(
    content: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as found:
        read_array(io.BytesIO(content))
    assert message in str(found.value)
    assert "\n" not in str(found.value)
    assert not Path("touched").exists()


def test_crops_are_drawn_and_mirrors_only_where_asked() -> None:
    array = np.arange(20 * 20 * 5, dtype=np.float32).reshape(20, 20, 5)
    plain = ArrayTransform(5, (8, 8), Augment(), (0.0,) * 5, (1.0,) * 5)
    training = ArrayTransform(5, (8, 8), Augment(), (0.0,) * 5, (1.0,) * 5, training=True)
    assert torch.equal(plain(array), plain(array))
    torch.manual_seed(0)
    drawn = [training(array) for _ in range(8)]
    assert len({image.numpy().tobytes() for image in drawn}) > 4
    assert all((image.diff(dim=2) > 0).all() for image in drawn), "left stays left"
    mirror = ArrayTransform(5, (8, 8), Augment(flip=1.0), (0.0,) * 5, (1.0,) * 5, training=True)
    assert (mirror(array).diff(dim=2) < 0).all()
    still = ArrayTransform(5, (8, 8), Augment(random=False), (0.0,) * 5, (1.0,) * 5, training=True)
    assert torch.equal(still(array), plain(array))


def test_evaluation_takes_the_middle() -> None:
    array = np.zeros((16, 32, 2), np.uint8)
    array[:, 8:24] = 255
    cut = ArrayTransform(2, (8, 8), Augment(crop=1.0), (0.0, 0.0), (1.0, 1.0))(array)
    assert cut.shape == (2, 8, 8)
    assert cut[:, :, 1:-1].min() > 0.99
    wider = ArrayTransform(2, (8, 8), Augment(crop=0.5), (0.0, 0.0), (1.0, 1.0))(array)
    assert wider.min() > 0.99


def test_what_does_not_fit_is_one_line(tmp_path: Path) -> None:
    folder = bands(tmp_path / "a")
    spec = f"folder:{folder}"
    for options, message in (
        ({"channels": 3}, "arrays of 13 channels, not 3"),
        ({"augment": PRESETS["imagenet"]}, "change colours, but the images are .npy arrays of 13 channels"),
    ):
        with pytest.raises(InputError) as found:
            load_data(spec, image_size=8, **options)
        assert message in str(found.value)
    np.save(folder / "wood" / "0.npy", np.zeros((9, 9, 4), np.uint8))
    with pytest.raises(InputError, match="several numbers of channels"):
        load_data(spec, image_size=8)
    (folder / "wood" / "0.npy").unlink()
    Image.new("RGB", (9, 9)).save(folder / "wood" / "x.png")
    with pytest.raises(InputError, match=r"both pictures \('wood/x.png'\) and .npy arrays"):
        load_data(spec, image_size=8)


def test_a_damaged_file_among_others_is_skipped(tmp_path: Path) -> None:
    folder = bands(tmp_path)
    (folder / "wood" / "0.npy").write_bytes(b"nothing")
    values = np.zeros((9, 10, BANDS), np.float32)
    values[0, 0, 0] = np.nan
    np.save(folder / "wood" / "1.npy", values)
    data = load_data(f"folder:{folder}", image_size=8, scoring=True)
    from scansearch.data import evaluation_batches

    assert sum(len(labels) for _, labels in evaluation_batches(data.test, 8)) == 22
    assert len(data.broken.names) == 2


def test_a_tiff_of_many_bands_is_told_what_helps(tmp_path: Path) -> None:
    def entry(tag: int, kind: int, count: int, value: int) -> bytes:
        return struct.pack("<HHII", tag, kind, count, value)

    entries = [(256, 3, 1, 4), (257, 3, 1, 4), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 200),
               (277, 3, 1, 13), (278, 3, 1, 4), (279, 4, 1, 208)]  # fmt: skip
    content = (
        struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + b"".join(entry(*e) for e in entries) + bytes(4)
    )
    for label in "ab":
        (tmp_path / label).mkdir()
        (tmp_path / label / "x.tif").write_bytes(content.ljust(200, b"\0") + bytes(208))
    data = load_data(f"folder:{tmp_path}", image_size=8, scoring=True)
    with pytest.raises(InputError, match=r"x\.tif' cannot be read: .*save the array as \.npy"):
        data.test.read(0)


# --- from a training to predictions ---


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bands")
    images = bands(folder / "images")
    scansearch.train(
        tiny_genotype(), data=f"folder:{images}", out=folder / "run", epochs=2, batch_size=8, device="cpu"
    )
    return folder


def test_the_statistics_of_the_training_travel(trained: Path) -> None:
    treatment = load_weights(trained / "run" / "best.safetensors").treatment
    assert len(treatment.mean) == BANDS
    result = json.loads((trained / "run" / "result.json").read_text())["test"]
    scores = scansearch.evaluate(trained / "run", data=f"folder:{trained / 'images'}", device="cpu")
    assert scores.loss == pytest.approx(result["loss"], abs=1e-6)
    other = bands(trained / "other", "uint8", each=3)
    scores = scansearch.evaluate(trained / "run", data=f"folder:{other}", device="cpu")
    loaded = scansearch.load(trained / "run")
    files = sorted(other.glob("*/*.npy"))
    with torch.no_grad():
        logits = loaded.model(torch.stack([loaded.transform(np.load(file)) for file in files]))
    labels = torch.tensor([0] * 3 + [1] * 3)
    assert scores.loss == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), abs=1e-5)


def test_arrays_are_predicted_and_pictures_refused(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, error = call(
        capsys, "predict", str(trained / "run"), str(trained / "images" / "wood"), "--json"
    )
    assert code == 0, error
    told = json.loads(out)
    assert len(told) == 12
    loaded = scansearch.load(trained / "run")
    with torch.no_grad():
        logits = loaded.model(loaded.arrays(np.load(told[0]["image"]))[None])
    assert told[0]["classes"][0]["probability"] == pytest.approx(
        logits.double().softmax(1).max().item(), abs=1e-6
    )
    Image.new("RGB", (9, 9)).save(trained / "x.png")
    code, _, error = call(capsys, "predict", str(trained / "run"), str(trained / "x.png"))
    assert code == 1
    assert "the model takes .npy arrays of 13 channels, no pictures" in error


@pytest.mark.parametrize("name", ["hub", "torch-export", pytest.param("onnx", marks=pytest.mark.long)])
def test_exports_score_alike(trained: Path, name: str) -> None:
    from scansearch.exporting import export

    if name == "onnx":
        pytest.importorskip("onnx")
    out = trained / {"hub": "hub", "torch-export": "x.pt2", "onnx": "x.onnx"}[name]
    export(trained / "run", name, out)
    data = f"folder:{trained / 'images'}"
    expected = scansearch.evaluate(trained / "run", data=data, device="cpu")
    assert scansearch.evaluate(out, data=data, device="cpu").loss == pytest.approx(expected.loss, abs=1e-5)
