"""A model's score is what counting by hand gives, whatever file the model comes from; hostile files run nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.metrics import f1_score
from support.planted import made_data

from scansearch.cli import main
from scansearch.data import BrokenImage
from scansearch.engine.devices import make_accelerator
from scansearch.errors import InputError, RunStopped
from scansearch.evaluation.evaluate import Evaluation, evaluate, evaluate_model
from scansearch.exporting import export
from scansearch.files.strict import validate
from scansearch.records.genotype import Genotype
from scansearch.records.weights import load_weights, save_weights

ARGUMENTS = {"num_classes": 10, "in_chans": 1, "img_size": [8, 8]}


@pytest.fixture
def genotype(tiny_space) -> Genotype:
    return Genotype.of_space(tiny_space, [["h", "w2"], ["v", "v_flip"]])


@pytest.fixture
def weight_file(genotype, tmp_path):
    torch.manual_seed(0)
    model = genotype.build(**(ARGUMENTS | {"img_size": (8, 8)}))
    path = tmp_path / "best.safetensors"
    save_weights(path, model, genotype, ARGUMENTS, {"data": "digits"})
    return path


def noisy_predictor(data, seed=0):
    """Logits that are often right: the label's rises above noise."""
    generator = torch.Generator().manual_seed(seed)
    known = {data.test.read(i)[0].numpy().tobytes(): data.test.read(i)[1] for i in range(data.test.count)}

    def predict(images):
        logits = torch.randn(len(images), len(data.classes), generator=generator)
        for row, image in zip(logits, images, strict=True):
            row[known[image.numpy().tobytes()]] += 1.0
        return logits

    return predict


def test_figures_are_those_of_counting_by_hand():
    data = replace(made_data(90), classes=tuple("abcdefg"))
    found = evaluate_model(noisy_predictor(data), data, make_accelerator("cpu", "no"), batch_size=8)
    predict = noisy_predictor(data)
    confusion = np.zeros((7, 7), dtype=int)
    losses, in_five = [], 0
    for start in range(0, data.test.count, 8):
        samples = [data.test.read(i) for i in range(start, min(start + 8, data.test.count))]
        for row, (_, label) in zip(
            predict(torch.stack([image for image, _ in samples])), samples, strict=True
        ):
            confusion[label, int(row.argmax())] += 1
            losses.append(-float(row.double().log_softmax(0)[label]))
            in_five += label in row.argsort(descending=True)[:5].tolist()
    assert [list(row) for row in found.confusion] == confusion.tolist()
    assert found.images == 45
    assert found.top1 == pytest.approx(100 * confusion.trace() / 45)
    assert found.top5 == pytest.approx(100 * in_five / 45)
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-5)
    for label, accuracy in enumerate(list(found.per_class.values())[:4]):  # the images are of four classes
        assert accuracy == pytest.approx(100 * confusion[label, label] / confusion[label].sum())
    assert found.images_per_second > 0
    labels = [label for label, row in enumerate(confusion) for _ in range(row.sum())]
    predicted = [label for row in confusion for label, count in enumerate(row) for _ in range(count)]
    assert found.macro_f1 == pytest.approx(100 * f1_score(labels, predicted, average="macro"))
    recalls = confusion.diagonal()[:4] / confusion.sum(1)[:4]
    assert found.balanced_accuracy == pytest.approx(100 * recalls.mean())


def test_images_that_cannot_be_read_do_not_count():
    data = made_data(20)

    def read(i, broken=(3, 4)):
        if i in broken:
            raise BrokenImage(f"image {i}", "made so")
        return data.test.read(i)

    holed = replace(data, test=replace(data.test, read=read)).counting_broken(5)
    found = evaluate_model(
        lambda x: torch.zeros(len(x), 4), holed, make_accelerator("cpu", "no"), batch_size=2
    )
    assert (found.images, found.skipped) == (8, 2)
    everything = replace(data, test=replace(data.test, read=lambda i: read(i, range(99)))).counting_broken(99)
    with pytest.raises(RunStopped, match="no image of the test split"):
        evaluate_model(lambda x: torch.zeros(len(x), 4), everything, make_accelerator("cpu", "no"))


def test_a_class_without_images_has_no_accuracy():
    data = replace(made_data(16), classes=("0", "1", "2", "3", "none"))
    found = evaluate_model(lambda x: torch.zeros(len(x), 5), data, make_accelerator("cpu", "no"))
    assert found.per_class["none"] is None
    assert json.loads(found.to_json())["per_class"]["none"] is None


def test_a_model_with_nan_in_its_weights_has_no_score(genotype, tmp_path, capsys):
    """Also where a kernel could hide it: in the bias of delta."""
    for value in (float("nan"), float("inf")):
        model = genotype.build(num_classes=10, in_chans=1, img_size=8)
        biases = [tensor for name, tensor in model.named_parameters() if "dt_bias" in name]
        assert biases
        with torch.no_grad():
            biases[0].fill_(value)
        assert not torch.isfinite(model(torch.rand(2, 1, 8, 8))).any()
        file = tmp_path / f"{value}.safetensors"
        save_weights(file, model, genotype, {"img_size": 8}, {})
        with pytest.raises(SystemExit) as stop:
            main(
                ["evaluate", str(file), "--data", "digits", "--out", str(tmp_path / "out"), "--device", "cpu"]
            )
        out, err = capsys.readouterr()
        assert stop.value.code == 1
        assert "the loss on 360 images is nan" in err
        assert err.count("\n") == 1
        assert "top-1" not in out
        assert not (tmp_path / "out" / "evaluation.json").exists()


def test_an_evaluation_survives_its_json():
    data = made_data(16)
    found = evaluate_model(lambda x: torch.zeros(len(x), 4), data, make_accelerator("cpu", "no"))
    record = json.loads(found.to_json())
    for derived in ("per_class", "balanced_accuracy", "macro_f1"):
        record.pop(derived)
    assert validate(record, Evaluation, source="json") == found


def test_weights_are_evaluated_at_any_image_size(weight_file):
    for size, expected in ((None, (8, 8)), (12, (12, 12)), ((6, 10), (6, 10))):
        found = evaluate(weight_file, image_size=size, device="cpu")
        assert found.image_size == expected
        assert found.data == "digits"
        assert found.images == 360


def test_evaluate_shows_a_table_and_writes_json_and_picture(weight_file, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", str(weight_file), "--out", str(tmp_path / "out"), "--device", "cpu"])
    out, _ = capsys.readouterr()
    assert not stop.value.code
    record = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert f"top-1 {record['top1']:.2f} %" in out
    assert f"written to {tmp_path / 'out'}: evaluation.json, confusion.png" in out
    assert "360 test images of digits at 8x8" in out
    assert (tmp_path / "out" / "confusion.png").read_bytes().startswith(b"\x89PNG")


BAD = {
    "missing": (["/does/not/exist.safetensors"], "does not exist"),
    "unknown ending": (["FOLDER/x.bin"], "unknown ending"),
    "empty folder": (["FOLDER/empty"], "holds no genotype.yaml, best.safetensors"),
    "size": (["FILE", "--image-size", "8by8"], "expected a side"),
    "split": (["FILE", "--split", "train"], "allowed: validation, val, test)"),
    "crop": (["FILE", "--crop", "2"], "crop must lie in"),
    "crop of digits": (["FILE", "--crop", "0.9"], "augmentation of its own"),
    "batch": (["FILE", "--batch-size", "0"], "batch size"),
    "precision": (["FILE", "--mixed-precision", "fp8"], "allowed: no, bf16"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_to_evaluate_is_one_clear_line(arguments, message, weight_file, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.bin").touch()
    arguments = [a.replace("FILE", str(weight_file)).replace("FOLDER", str(tmp_path)) for a in arguments]
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", *arguments, "--device", "cpu"])
    out, err = capsys.readouterr()
    assert stop.value.code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not out


def test_pictures_are_read_with_the_channels_that_the_model_takes(weight_file, genotype, tmp_path):
    assert evaluate(weight_file, data="fake:8x8:10", device="cpu").images == 128  # grey
    model = genotype.build(num_classes=10, in_chans=3, img_size=8)
    save_weights(tmp_path / "w.safetensors", model, genotype, {"img_size": 8}, {})
    with pytest.raises(InputError, match="'digits' has images of 1 channels, not 3"):
        evaluate(tmp_path / "w.safetensors", data="digits", device="cpu")


def test_a_model_with_other_classes_than_the_data_is_refused(genotype, tmp_path):
    model = genotype.build(num_classes=3, in_chans=1, img_size=8)
    save_weights(tmp_path / "w.safetensors", model, genotype, {"img_size": 8}, {})
    with pytest.raises(InputError, match="digits' has 10 classes"):
        evaluate(tmp_path / "w.safetensors", data="digits", device="cpu")
    with pytest.raises(InputError, match="give --data"):
        evaluate(tmp_path / "w.safetensors", device="cpu")


@pytest.mark.parametrize(("format", "name"), [("torch-export", "model.pt2"), ("hub", "hub")])
def test_exports_score_like_the_weights_that_they_came_from(format, name, weight_file, genotype, tmp_path):
    genotype.save(tmp_path / "genotype.yaml")
    export(tmp_path / "genotype.yaml", format, tmp_path / name, weights=weight_file)
    found = evaluate(tmp_path / name, data="digits", device="cpu")
    expected = evaluate(weight_file, device="cpu")
    assert found.image_size == (8, 8)
    assert found.confusion == expected.confusion
    assert found.loss == pytest.approx(expected.loss, rel=1e-4)


def test_a_program_that_is_damaged_is_one_clear_line(tmp_path):
    (tmp_path / "broken.pt2").write_bytes(b"no zip")
    with pytest.raises(InputError, match=r"broken\.pt2"):
        evaluate(tmp_path / "broken.pt2", data="digits", device="cpu")


# --- weight files ---


def test_weights_round_trip(weight_file, genotype):
    torch.manual_seed(0)
    expected = genotype.build(**(ARGUMENTS | {"img_size": (8, 8)})).eval()
    found = load_weights(weight_file)
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(found.model(x), expected(x))
    assert found.genotype == genotype
    assert found.notes == {"data": "digits"}


def _lying_header(true, changes):
    header = {"genotype": true.to_yaml(), "arguments": json.dumps(ARGUMENTS), "notes": "{}"}
    return {key: value for key, value in (header | changes).items() if value is not None}


HOSTILE = {
    "no genotype": ({"genotype": None}, "no genotype in the header"),
    "python tag": ({"genotype": "a: !!python/object/apply:os.system [touch HERE]"}, "could not determine"),
    "alias bomb": ({"genotype": "a: &a [x]\nb: [*a, *a]"}, "aliases"),
    "no JSON": ({"arguments": "["}, "not a JSON object"),
    "deep JSON": ({"arguments": "[" * 100_000}, "not a JSON object"),
    "unknown argument": ({"arguments": '{"colour": 1}'}, "no argument 'colour'"),
    "huge model": ({"arguments": '{"embed_dim": 100000000, "num_classes": 10}'}, "do not fit the genotype"),
    "other size": ({"arguments": '{"img_size": 80}'}, "do not fit the genotype"),
}


@pytest.mark.parametrize(("changes", "message"), HOSTILE.values(), ids=HOSTILE.keys())
def test_headers_that_lie_are_one_clear_line(changes, message, genotype, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = genotype.build(num_classes=10, in_chans=1, img_size=8)
    save_file(model.state_dict(), "w.safetensors", metadata=_lying_header(genotype, changes))
    with pytest.raises(InputError) as found:
        load_weights("w.safetensors")
    assert message in str(found.value)
    assert "w.safetensors" in str(found.value)
    assert "\n" not in str(found.value)
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


@pytest.mark.parametrize("content", [b"", b"\x80\x04cos\nsystem\n", b"\xff" * 64, b"PK\x03\x04"], ids=repr)
def test_files_that_are_no_safetensors_are_one_clear_line(content, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a safetensors file"):
        load_weights(path)
