"""Every format gives back the model it was made from, names no folder, and bad input is one line."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import timm
import torch
from support.exports import SIZES, trained

import scansearch.models
from scansearch.cli import main
from scansearch.data.treatment import Treatment
from scansearch.errors import InputError
from scansearch.exporting import export
from scansearch.exporting.source import SourceOptions, load_source
from scansearch.exporting.targets import (
    hub_folder,
)
from scansearch.records.genotype import Genotype
from scansearch.records.weights import load_weights, save_weights

FOLDER, STORE = "folder:/home/somebody/secret/birds", "timm:torch/cifar10@/home/somebody/secret"
FAMILIES = pytest.mark.parametrize("family", ["local_vim", "local_vmamba"])


@FAMILIES
def test_yaml_to_model_to_yaml_is_identical(family: str, genotypes: dict[str, Path], tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    assert export(genotypes[family], "yaml", first, **SIZES).difference == 0
    export(first, "yaml", second, **SIZES)
    assert first.read_bytes() == second.read_bytes() == genotypes[family].read_bytes()
    assert Genotype.load(first).build(**SIZES).directions == Genotype.load(second).layers


@pytest.mark.smoke
@FAMILIES
def test_weights_of_a_run_survive_safetensors(
    family: str, genotypes: dict[str, Path], tmp_path: Path
) -> None:
    run, source = trained(genotypes, family, tmp_path / "run")
    done = export(run, "safetensors", tmp_path / "model.safetensors")
    assert "best.safetensors" in done.weights
    read = load_weights(done.out)
    images = source.images(3)
    assert torch.equal(read.model(images), source.logits(images))
    assert read.genotype == source.genotype
    assert read.notes["validation_accuracy"] == 87.5
    again = load_source(done.out)
    assert torch.equal(again.logits(images), source.logits(images))


@pytest.mark.smoke
@FAMILIES
def test_timm_reads_the_hub_folder(family: str, genotypes: dict[str, Path], tmp_path: Path) -> None:
    run, source = trained(genotypes, family, tmp_path / "run")
    export(run, "hub", tmp_path / "hub")
    model = timm.create_model(f"local-dir:{tmp_path / 'hub'}", pretrained=True).eval()
    images = source.images(3)
    assert torch.equal(model(images), source.logits(images))
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert config["model_args"]["directions"] == [list(names) for names in source.genotype.layers]
    assert config["architecture"] == family
    assert config["num_classes"] == 4
    card = (tmp_path / "hub" / "README.md").read_text()
    assert f"| parameters | {sum(p.numel() for p in source.model.parameters()):,} |" in card
    assert "| validation accuracy | 87.5 |" in card
    assert source.genotype.hash in card
    assert "fresh" not in card
    assert {path.name for path in (tmp_path / "hub").iterdir()} == {
        "config.json",
        "README.md",
        "model.safetensors",
    }


@pytest.mark.parametrize(
    ("statistics", "expected"),
    [
        ({"mean": (0.3,), "std": (0.4,)}, {"mean": [0.3], "std": [0.4]}),
        ({"mean": None, "std": None}, {"mean": [0.0], "std": [1.0]}),
        ({"mean": (0.3, 0.3), "std": (0.4, 0.4)}, {"mean": [0.0], "std": [1.0]}),
    ],
)
def test_the_hub_folder_tells_how_its_images_are_normalised(
    statistics: dict[str, Any], expected: dict[str, Any], genotypes: dict[str, Path]
) -> None:
    source = load_source(genotypes["local_vim"], SourceOptions(**SIZES))
    source = dataclasses.replace(source, treatment=Treatment(image_size=(8, 8), **statistics))
    config = hub_folder.config(source)["pretrained_cfg"]
    assert {"mean": config["mean"], "std": config["std"]} == expected
    three = load_source(genotypes["local_vim"], SourceOptions(num_classes=4))
    assert hub_folder.config(three)["pretrained_cfg"]["mean"] == pytest.approx([0.485, 0.456, 0.406])


def test_fresh_weights_come_from_the_seed(genotypes: dict[str, Path]) -> None:
    first, same, other = (
        load_source(genotypes["local_vim"], SourceOptions(seed=seed, **SIZES)) for seed in (1, 1, 2)
    )
    images = first.images()
    assert torch.equal(first.logits(images), same.logits(images))
    assert not torch.equal(first.logits(images), other.logits(images))


def test_a_plain_checkpoint_gives_classes_and_channels(genotypes: dict[str, Path], tmp_path: Path) -> None:
    source = load_source(genotypes["local_vim"], SourceOptions(seed=3, num_classes=6, in_chans=2))
    torch.save({"state_dict": source.model.state_dict()}, tmp_path / "plain.pth")
    read = load_source(genotypes["local_vim"], SourceOptions(weights=tmp_path / "plain.pth"))
    assert (read.model.num_classes, read.model.in_chans) == (6, 2)
    assert torch.equal(read.logits(source.images()), source.logits(source.images()))


def imported(path: Path, name: str) -> ModuleType:
    """The module in the file ``path``, known to Python as ``name``, as timm needs it."""
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module


def test_timm_module_registers_the_model(genotypes: dict[str, Path], tmp_path: Path) -> None:
    run, source = trained(genotypes, "local_vmamba", tmp_path / "run")
    done = export(run, "timm", tmp_path / "my_vmamba.py")
    assert done.name == "my_vmamba"
    imported(done.out, "my_vmamba_module")
    model = timm.create_model("my_vmamba").eval()
    model.load_state_dict(source.model.state_dict())
    assert torch.equal(model(source.images()), source.logits(source.images()))
    assert timm.create_model("my_vmamba", num_classes=9).head.out_features == 9
    with pytest.raises(InputError, match="already registered with timm"):
        export(run, "timm", tmp_path / "my_vmamba.py")


@pytest.mark.parametrize("new", [False, True], ids=["as first exported", "with today's imports"])
def test_a_module_exported_earlier_still_registers_its_model(new: bool, tmp_path: Path) -> None:
    """``exported_timm.py`` was written before the face of ``scansearch.models`` had what it imports."""
    name = "exported_anew" if new else "exported_timm"
    text = (Path(__file__).parent / "exported_timm.py").read_text(encoding="utf-8")
    if new:
        old = """from scansearch.models.families import CONFIGURATION
from scansearch.models.registry import create
"""
        assert old in text
        text = text.replace(old, "from scansearch.models import CONFIGURATION, create\n")
        text = text.replace("exported_timm", name)
    (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    module = imported(tmp_path / f"{name}.py", f"{name}_module")
    model = timm.create_model(name).eval()
    assert [list(names) for names in model.directions] == module.DIRECTIONS
    assert model.default_cfg["input_size"] == (1, 28, 28)
    assert model.default_cfg["classifier"] == "head"
    expected = scansearch.models.build_model("local_vim", module.DIRECTIONS, **module.ARGUMENTS).eval()
    expected.load_state_dict(model.state_dict())
    images = torch.randn(2, 1, 28, 28)
    assert torch.equal(model(images), expected(images))


@pytest.mark.parametrize(
    ("format", "data"),
    [
        *((format, FOLDER) for format in ("yaml", "safetensors", "hub", "standalone", "timm")),
        *((format, STORE) for format in ("yaml", "safetensors")),
    ],
)
def test_exports_name_no_folder_of_this_machine(
    data: str, format: str, genotypes: dict[str, Path], tmp_path: Path
) -> None:
    run, source = trained(genotypes, "local_vim", tmp_path / "somebody")
    provenance = source.genotype.provenance.model_copy(update={"data": data})
    genotype = source.genotype.model_copy(update={"provenance": provenance})
    genotype.save(run / "genotype.yaml")
    save_weights(run / "best.safetensors", source.model, genotype, source.arguments, {"data": data})
    out = tmp_path / ("out" + {"yaml": ".yaml", "safetensors": ".safetensors", "hub": ""}.get(format, ".py"))
    export(run, format, out)
    files = list(out.iterdir()) if out.is_dir() else [out]
    assert files
    for file in files:
        assert b"somebody" not in file.read_bytes()
        if file.suffix in (".yaml", ".safetensors"):
            assert data.rpartition("/")[2].encode() in file.read_bytes() or b"cifar10" in file.read_bytes()


# --- bad input: one line, exit code 2, nothing written ---

BAD: dict[str, tuple[list[str], str]] = {
    "unknown format": (["--format", "tflite", "--out", "{out}/m"], "unknown format 'tflite' (allowed: yaml,"),
    "wrong suffix": (["--format", "onnx", "--out", "{out}/m.pt"], "must end in .onnx"),
    "folder in the way": (
        ["--format", "yaml", "--out", "{out}/folder.yaml"],
        "there is a folder of that name",
    ),
    "folder in use": (["--format", "hub", "--out", "{out}/used"], "must be a new or an empty folder"),
    "bad name": (["--format", "timm", "--out", "{out}/my-model.py"], "letters, digits and underscores"),
    "taken name": (
        ["--format", "timm", "--out", "{out}/m.py", "--name", "localvim_tiny"],
        "'localvim_tiny': already registered",
    ),
    "no such weights": (
        ["--format", "yaml", "--out", "{out}/m.yaml", "--weights", "{out}/no.pth"],
        "no such file",
    ),
    "other weights": (
        ["--format", "yaml", "--out", "{out}/m.yaml", "--weights", "{out}/used/best.safetensors"],
        "weights of genotype",
    ),
    "no classes": (
        ["--format", "yaml", "--out", "{out}/m.yaml", "--num-classes", "-1"],
        "at least 0, not -1",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case: str, genotypes: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    trained(genotypes, "local_vmamba", tmp_path / "used")
    (tmp_path / "folder.yaml").mkdir()
    before = sorted(tmp_path.rglob("*"))
    arguments, message = BAD[case]
    with pytest.raises(SystemExit) as stop:
        main(["export", str(genotypes["local_vim"]), *(text.format(out=tmp_path) for text in arguments)])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.count("\n") == 1
    assert message in error
    assert sorted(tmp_path.rglob("*")) == before


def test_unknown_subject_and_supernet_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"does not exist: export takes a genotype file, a search's run folder"
    ):
        load_source(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"holds no genotype.yaml, best.safetensors or config.yaml"):
        load_source(tmp_path)
    with pytest.raises(InputError, match="a supernet is no model to export"):
        load_source("localvim_tiny_search")


def test_weights_decide_the_number_of_classes(genotypes: dict[str, Path], tmp_path: Path) -> None:
    run, _ = trained(genotypes, "local_vim", tmp_path / "run")
    with pytest.raises(InputError, match="the weights are for num_classes 4, not 10"):
        load_source(run, SourceOptions(num_classes=10))
