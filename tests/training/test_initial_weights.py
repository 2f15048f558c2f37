"""Training from given weights: what is taken, what is adapted and how exactly, what is refused, and how it resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.commands import call
from support.trainings import tiny_genotype
from timm.models import adapt_input_conv

from scansearch import engine
from scansearch.data.treatment import Treatment
from scansearch.errors import InputError
from scansearch.models.backbone import ScanBackbone
from scansearch.models.transfer import adapt_channels, load_transfer
from scansearch.records.genotype import Genotype
from scansearch.records.weights import save_weights
from scansearch.runs.folder import Run
from scansearch.runs.recorder import Notice, Warned
from scansearch.runs.train_run import resume_training, train
from scansearch.training.initial import Start, fit_weights, read_initial

CLASSES = ("cat", "dog", "owl")
ARGUMENTS: dict[str, Any] = {"num_classes": 3, "in_chans": 3, "img_size": (8, 12)}


def built(genotype: Genotype, seed: int, **arguments: Any) -> ScanBackbone:
    torch.manual_seed(seed)
    return genotype.build(**(ARGUMENTS | arguments)).eval()


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScanBackbone:
    """The model whose weights are in ``w.safetensors`` of the working folder."""
    monkeypatch.chdir(tmp_path)
    model = built(tiny_genotype(), seed=1)
    treatment = Treatment(image_size=(8, 12), classes=CLASSES)
    arguments = ARGUMENTS | {"img_size": [8, 12]}
    save_weights(Path("w.safetensors"), model, tiny_genotype(), arguments, {}, treatment)
    return model


def fitted(
    name: str, classes: tuple[str, ...] = CLASSES, genotype: Genotype | None = None, **arguments: Any
) -> tuple[ScanBackbone, Start]:
    """Another model of fresh weights, and the same with those of the file ``name``."""
    genotype = genotype or tiny_genotype()
    arguments = {"num_classes": len(classes)} | arguments
    model = built(genotype, 2, **arguments)
    start = fit_weights(read_initial(name), model, genotype, ARGUMENTS | arguments, classes)
    load_transfer(model, start.given)
    return model, start


def test_the_same_model_gets_every_tensor(source: ScanBackbone) -> None:
    model, start = fitted("w.safetensors")
    count = len(source.state_dict())
    assert start.lines == (f"{count} of {count} tensors loaded from w.safetensors",)
    images = torch.randn(2, 3, 8, 12)
    assert torch.equal(model(images), source(images))


@pytest.mark.parametrize("classes", [("cat", "dog"), ("dog", "cat", "owl"), ("cat", "dog", "elk")])
def test_other_classes_get_a_fresh_head_and_all_else(classes: tuple[str, ...], source: ScanBackbone) -> None:
    model, start = fitted("w.safetensors", classes)
    fresh = built(tiny_genotype(), 2, num_classes=len(classes))
    assert start.given.fresh == ("head.weight", "head.bias")
    assert start.lines[-1] == f"fresh head for {len(classes)} classes (3 classes before)"
    assert torch.equal(model.head.weight, fresh.head.weight)
    images = torch.randn(2, 3, 8, 12)
    assert torch.equal(model.forward_features(images), source.forward_features(images))


@pytest.mark.parametrize("size", [(16, 12), (8, 8), (14, 10), (12, 8)])
def test_another_size_resamples_the_positions(size: tuple[int, int], source: ScanBackbone) -> None:
    model, start = fitted("w.safetensors", img_size=size)
    source.set_input_size(size)
    grid = f"{size[0] // 2}x{size[1] // 2}"
    assert start.lines[1:] == (f"position embedding resampled from 4x6 to {grid} patches",)
    torch.testing.assert_close(model.pos_embed, source.pos_embed, atol=1e-6, rtol=0)
    images = torch.randn(2, 3, *size)
    torch.testing.assert_close(model(images), source(images), atol=1e-6, rtol=0)


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_channels_are_adapted_by_timms_rule(channels: int, source: ScanBackbone) -> None:
    model, start = fitted("w.safetensors", in_chans=channels)
    assert start.lines[1:] == (f"first convolution adapted from 3 to {channels} channels",)
    before = source.patch_embed.proj.weight.detach()
    torch.testing.assert_close(model.patch_embed.proj.weight.detach(), adapt_input_conv(channels, before))
    grey = torch.randn(2, 1, 8, 12)
    if channels == 1:
        torch.testing.assert_close(model(grey), source(grey.expand(-1, 3, -1, -1)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("channels", [3, 4])
def test_grey_weights_compute_the_same_of_repeated_grey(channels: int) -> None:
    weight, grey = torch.randn(5, 1, 2, 2), torch.randn(2, 1, 8, 8)
    many = adapt_channels(weight, channels)
    expected = torch.nn.functional.conv2d(grey, weight)
    found = torch.nn.functional.conv2d(grey.expand(-1, channels, -1, -1), many)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_plain_checkpoints_are_read_safely(source: ScanBackbone) -> None:
    state = {f"_orig_mod.module.{name}": value.half() for name, value in source.state_dict().items()}
    torch.save({"model": state, "epoch": 3}, "plain.pth")
    model, start = fitted("plain.pth", img_size=(8, 12))
    assert "the file does not tell its directions: they could not be compared" in start.lines
    expected = {name: value.half().float() for name, value in source.state_dict().items()}
    # 24 patches of an unknown size fit no square, but are as many as the model has
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    with pytest.raises(InputError, match="position embedding of 24 patches fits no square image"):
        fitted("plain.pth", img_size=(8, 8))


class Touch:
    """Unpickled, it creates the file MARK in the working folder."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("MARK", "w"))


def genotype_of(**changes: Any) -> Genotype:
    return Genotype.model_validate(
        {"family": "local_vim", "layers": tiny_genotype().layers, "model": tiny_genotype().model} | changes
    )


def test_what_does_not_fit_is_one_line_with_the_first_difference(source: ScanBackbone) -> None:
    wide = dict(tiny_genotype().model) | {"embed_dim": 12}
    turned = dict(tiny_genotype().model) | {"rope": True}
    other = genotype_of(layers=[["h", "w2"], ["v", "h"]])
    cases = {
        "layer 1 (from 0) scans v v_flip, the model's v h": other,
        "they have 2 layers, the model has 1": genotype_of(layers=[["h", "w2"]]),
        "their embed_dim is 8, the model's 12": genotype_of(model=wide),
        "their rope is False, the model's True": genotype_of(model=turned),
    }
    for message, genotype in cases.items():
        with pytest.raises(InputError) as caught:
            fitted("w.safetensors", genotype=genotype)
        assert str(caught.value) == f"weights 'w.safetensors' do not fit: {message}"
    state = dict(source.state_dict())
    del state["norm.weight"]
    torch.save(state, "short.pth")
    torch.save(dict(source.state_dict()) | {"layers.9.x": torch.ones(1)}, "long.pth")
    for name, message in (
        ("short.pth", "they lack norm.weight"),
        ("long.pth", "they hold layers.9.x, which"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            fitted(name)
        assert "scansearch convert" in str(caught.value)


def test_what_is_no_weights_is_refused_and_never_run(
    source: ScanBackbone, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_genotype().save(tmp_path / "genotype.yaml")
    torch.save({"model": Touch()}, "evil.pth")
    Path("text.pth").write_text("text")
    for name, message in (
        ("evil.pth", "could run code"),
        ("text.pth", "text.pth"),
        ("none.safetensors", "does not exist"),
        ("genotype.yaml", "is a genotype file, but train --weights takes"),
        ("vim8", "'vim8' does not exist"),
    ):
        code, _, err = call(capsys, "train", "genotype.yaml", "--data", "digits", "--weights", name)
        assert (code, err.count("\n")) == (2, 1), name
        assert message in err
    assert not Path("MARK").exists()
    assert not Path("runs").exists()


# --- whole trainings ---

QUICK: dict[str, Any] = {"data": "digits", "epochs": 2, "batch_size": 256, "image_size": 8, "device": "cpu"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training on digits at 8x8 pixels, and below it one at 12x10 from its weights."""
    folder = tmp_path_factory.mktemp("start")
    train(tiny_genotype(), out=folder / "first", **QUICK)
    train(tiny_genotype(), out=folder / "second", **options(folder))
    return folder


def options(folder: Path) -> dict[str, Any]:
    return QUICK | {"image_size": (12, 10), "weights": folder / "first", "ema": {"decay": 0.9}}


def test_a_training_starts_where_the_weights_end_and_tells_it(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (Run.open(trained / name) for name in ("first", "second"))
    report = json.loads((second.folder / "weights.json").read_text())
    assert report["file"] == str(first.folder / "best.safetensors")
    assert report["fresh"] == []
    summary = (second.folder / "summary.md").read_text()
    assert "from given weights" in summary.splitlines()[0]
    assert "* weights: position embedding resampled from 4x4 to 6x5 patches" in summary
    arguments = ["--epochs", "1", "--batch-size", "512", "--image-size", "8", "--device", "cpu"]
    arguments += ["--set", "optimizer.lr=1e-9", "--set", "schedule={warmup_lr: 0.0, min_lr: 0.0}"]
    out = str(trained / "third")
    code, _, err = call(
        capsys, "train", str(trained / "first"), "--data", "digits", "--weights", str(trained / "first"),
        "--out", out, *arguments,
    )  # fmt: skip
    assert code == 0
    assert f"weights: {len(load_file(first.folder / 'best.safetensors'))} of" in err
    assert f"from {first.folder / 'best.safetensors'} on digits" in err
    scores = [json.loads((path / "result.json").read_text())["test"] for path in (first.folder, Path(out))]
    assert scores[1]["loss"] == pytest.approx(scores[0]["loss"], abs=1e-5), "with no rate nothing is learnt"


class Stop(Exception):
    """Ends a training from within its observer."""


def stopped(folder: Path, out: Path, kind: type) -> None:
    def observe(notice: Notice) -> None:
        if isinstance(notice, kind):
            raise Stop

    with pytest.raises(Stop):
        train(tiny_genotype(), out=out, observe=observe, **options(folder))


def test_it_resumes_bit_identical_also_without_the_file(trained: Path, tmp_path: Path) -> None:
    stopped(trained, tmp_path / "run", engine.CheckpointReady)
    moved = trained / "first" / "elsewhere"
    file = trained / "first" / "best.safetensors"
    file.rename(moved)
    warnings: list[str] = []
    try:
        resume_training(
            tmp_path / "run", observe=lambda n: warnings.append(n.text) if isinstance(n, Warned) else None
        )
    finally:
        moved.rename(file)
    assert warnings == [
        f"{file}, which this training started from, is gone; it goes on from its own checkpoint"
    ]
    whole, resumed = Run.open(trained / "second"), Run.open(tmp_path / "run")
    assert resumed.metrics("step") == whole.metrics("step")
    expected, found = (load_file(run.folder / "best.safetensors") for run in (whole, resumed))
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_start_is_not_repeated_from_other_weights(trained: Path, tmp_path: Path) -> None:
    stopped(trained, tmp_path / "run", engine.StepDone)
    assert not Run.open(tmp_path / "run").checkpoints()
    file = trained / "first" / "best.safetensors"
    before = file.read_bytes()
    try:
        file.write_bytes((trained / "second" / "best.safetensors").read_bytes())
        with pytest.raises(InputError, match=r"what the weights give that it starts from .* was changed"):
            resume_training(tmp_path / "run")
    finally:
        file.write_bytes(before)
