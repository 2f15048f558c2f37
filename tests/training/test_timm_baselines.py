"""``timm:NAME``: models of timm trained by the same recipe into the same run folder, to compare a search with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.commands import call
from support.tiny import TINY_SPACE
from torch.utils.flop_counter import FlopCounterMode

import scansearch
from scansearch.analysis.compare import compare
from scansearch.costing.decoders import network_flops
from scansearch.errors import InputError
from scansearch.files.strict import dump_yaml
from scansearch.models.decay import decayed
from scansearch.models.timm_baseline import build_timm
from scansearch.records.genotype import Genotype
from scansearch.records.lookup import find_model
from scansearch.records.timm_model import TimmModel
from scansearch.records.weights import load_weights, read_header
from scansearch.runs.folder import Run
from scansearch.runs.train_run import resume_training, train

# test_vit has patches of 16 pixels.
SHORT = {
    "data": "digits",
    "epochs": 2,
    "batch_size": 256,
    "image_size": 16,
    "device": "cpu",
    "progress": False,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training of timm's smallest vision transformer."""
    base = tmp_path_factory.mktemp("baseline")
    return train("timm:test_vit", out=base / "vit", **SHORT).run.folder


def test_the_folder_is_that_of_every_training(folder: Path) -> None:
    run = Run(folder)
    assert run.trained == TimmModel(name="test_vit")
    files = {"best.safetensors", "config.yaml", "result.json", "summary.md", "report.html", "metrics.jsonl"}
    assert files <= {path.name for path in folder.iterdir()}
    assert not (folder / "genotype.yaml").exists()
    assert run.result["genotype"] is None
    model = build_timm("test_vit", num_classes=10, in_chans=1, img_size=(16, 16))
    assert run.result["params"] == sum(p.numel() for p in model.parameters())
    assert "timm:test_vit" in (folder / "report.html").read_text()
    assert "| layer |" not in run.summary
    with pytest.raises(InputError, match="trains timm:test_vit, which has no genotype"):
        run.genotype  # noqa: B018 - it is read


def test_its_weights_give_the_scores_of_the_training(folder: Path) -> None:
    again = scansearch.evaluate(folder, device="cpu")
    assert again.top1 == Run(folder).result["test"]["top1"]
    assert again.genotype is None
    loaded = scansearch.load(folder)
    assert loaded.image_size == (16, 16)
    assert loaded.model(torch.zeros(2, 1, 16, 16)).shape == (2, 10)
    before = torch.random.get_rng_state()
    assert load_weights(folder / "best.safetensors").in_chans == 1
    assert torch.equal(before, torch.random.get_rng_state())


def test_it_goes_on_from_a_checkpoint_bit_for_bit(folder: Path, tmp_path: Path) -> None:
    import shutil

    again = tmp_path / "again"
    shutil.copytree(folder, again)
    newest = Run(again).checkpoints()[-1]
    newest.unlink()
    assert Run(again).checkpoints()
    (again / "result.json").unlink()
    resume_training(again)
    whole, resumed = (load_weights(path / "best.safetensors").model.state_dict() for path in (folder, again))
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    assert Run(again).result["test"]["confusion"] == Run(folder).result["test"]["confusion"]


def test_compare_has_it_beside_genotypes_with_seeds_together(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ["--data", "digits", "--epochs", "1", "--batch-size", "256", "--device", "cpu", "--quiet"]
    folders = [folder]
    space = tmp_path / "tiny.yaml"
    space.write_text(dump_yaml(TINY_SPACE))
    for name, options in (("random:1", ["--k", "2"]), ("uniform:vmamba4", [])):
        out = tmp_path / name.replace(":", "-")
        place = ["--space", str(space), *options, "--out", str(out)]
        assert call(capsys, "train", name, *place, "--image-size", "8", *short)[0] == 0
        folders.append(out)
    train("timm:test_vit", out=tmp_path / "other", seed=1, **SHORT)
    rows = {row.name: row for row in compare([*folders, tmp_path / "other"], latency_device="cpu")}
    assert set(rows) == {"timm:test_vit", "random:1", "uniform:vmamba4"}
    baseline = rows["timm:test_vit"]
    assert (baseline.seeds, baseline.genotype) == (2, "")
    assert baseline.deviation is not None
    assert baseline.latency_ms is not None
    code, out, err = call(capsys, "show", str(folder))
    assert code == 0, err
    assert "timm:test_vit: " in out
    assert "export" not in out
    assert call(capsys, "plot", str(folder), "--out", str(tmp_path / "curves.png"))[0] == 0


def test_what_needs_a_genotype_says_so_in_one_line(folder: Path) -> None:
    with pytest.raises(InputError, match="timm:test_vit is a baseline, which has no genotype"):
        scansearch.export(folder, "safetensors", folder / "out.safetensors")
    with pytest.raises(InputError, match="timm:test_vit is a baseline, which has no genotype"):
        read_header(folder / "best.safetensors").genotype  # noqa: B018 - it is read


def test_our_own_registered_names_are_genotypes() -> None:
    found = find_model("timm:localvim_tiny")
    assert isinstance(found, Genotype)
    assert found == find_model("localvim_tiny")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("timm:tset_vit", {}, r"did you mean 'timm:test_vit'\?"),
        ("timm:localvim_tinny", {}, r"did you mean 'timm:localvim_tiny'\?"),
        ("timm:test_vit.r160_in1k", {}, "pretrained weights are not loaded; write 'timm:test_vit'"),
        (
            "timm:test_vit",
            {"image_size": 28},
            "does not fit images of 28x28 pixels and 1 channel: Input height",
        ),
        ("timm:test_vit", {"weights": __file__}, "trained from scratch only"),
        ("timm:test_vit", {"model_options": {"pretrained": True}}, "'pretrained' is no argument of a fresh"),
        ("timm:test_vit", {"model_options": {"no_such": 1}}, "no_such"),
        ("timm:test_vit", {"data": None}, "timm:test_vit does not say what it was searched on: give --data"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    name: str, options: dict, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        train(name, out=tmp_path / "out", **SHORT | options)
    assert not (tmp_path / "out").exists()


def test_models_that_take_no_size_are_made_without() -> None:
    model = build_timm("test_resnet", num_classes=3, in_chans=2, img_size=(20, 24))
    assert model(torch.zeros(2, 2, 20, 24)).shape == (2, 3)
    assert model.training


def test_flops_are_those_of_the_counter_also_of_fused_attention() -> None:
    model = build_timm("test_vit", num_classes=10, in_chans=1, img_size=(32, 32))
    plain = build_timm("test_vit", num_classes=10, in_chans=1, img_size=(32, 32)).eval()
    for block in plain.blocks:
        block.attn.fused_attn = False
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        plain(torch.zeros(1, 1, 32, 32))
    assert network_flops(model, 32, 32, in_chans=1) == counter.get_total_flops()


def test_what_timm_says_does_not_decay_does_not() -> None:
    decays = decayed(build_timm("test_vit", num_classes=10, in_chans=1, img_size=(32, 32)))  # type: ignore[arg-type]
    assert not decays["pos_embed"]
    assert not decays["head.bias"]
    assert decays["head.weight"]
    with pytest.raises(InputError, match="'released' is that of LocalMamba's models"):
        decayed(build_timm("test_resnet", num_classes=3, in_chans=3, img_size=(32, 32)), "released")  # type: ignore[arg-type]
