"""An export that does not give back its model leaves no file, and keeps the old one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.exports import SIZES

from scansearch.exporting import export
from scansearch.exporting.check import ExportMismatch, compare
from scansearch.exporting.source import Source, SourceOptions, load_source
from scansearch.exporting.targets import (
    genotype_yaml,
    hub_folder,
    standalone_file,
    torch_program,
    weight_file,
)
from scansearch.records.genotype import Genotype
from scansearch.records.weights import save_weights


def spoil(source: Source) -> torch.nn.Module:
    """The plain model with one weight changed a little."""
    model = ORIGINAL(source)
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if name.endswith("head.weight"))[0, 0] += 0.1
    return model


ORIGINAL = standalone_file.plain_model


def test_a_wrong_program_leaves_no_file(
    genotypes: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_program, "plain_model", spoil)
    with pytest.raises(ExportMismatch, match="logits differ by"):
        export(genotypes["local_vim"], "torch-export", tmp_path / "out" / "model.pt2", **SIZES)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_wrong_standalone_file_keeps_the_old_one(
    genotypes: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = standalone_file.standalone_text
    wrong = "return self.out_proj(self.merge(y))"
    right = "return self.out_proj(self.merge(y * F.silu(z).unsqueeze(1)))"
    assert right in original(load_source(genotypes["local_vim"], SourceOptions(**SIZES)))
    monkeypatch.setattr(
        standalone_file, "standalone_text", lambda source: original(source).replace(right, wrong)
    )
    out = tmp_path / "model.py"
    out.write_text("# the old one\n")
    with pytest.raises(ExportMismatch, match="logits differ by"):
        export(genotypes["local_vim"], "standalone", out, **SIZES)
    assert out.read_text() == "# the old one\n"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("module", [weight_file, hub_folder])
def test_wrong_weights_leave_nothing(
    module: Any, genotypes: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(path: Path, model: torch.nn.Module, *rest: Any) -> None:
        other = load_source(genotypes["local_vim"], SourceOptions(seed=99, **SIZES))
        save_weights(path, other.model, *rest)

    monkeypatch.setattr(module, "save_weights", save)
    out = tmp_path / ("model.safetensors" if module.SUFFIXES else "hub")
    with pytest.raises(ExportMismatch, match="logits differ by"):
        module.export(load_source(genotypes["local_vim"], SourceOptions(**SIZES)), out)
    assert list(tmp_path.iterdir()) == []


def test_a_lossy_genotype_file_leaves_nothing(
    genotypes: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = load_source(genotypes["local_vim"], SourceOptions(**SIZES))
    lines = source.genotype.to_yaml().replace("w4_flip", "w3_flip").splitlines(keepends=True)
    text = "".join(line for line in lines if not line.startswith("hash:"))
    monkeypatch.setattr(Genotype, "to_yaml", lambda self: text)
    with pytest.raises(ExportMismatch, match="does not survive"):
        genotype_yaml.export(source, tmp_path / "out.yaml")
    assert list(tmp_path.iterdir()) == []


def test_logits_that_are_not_finite_or_of_another_shape_are_mismatches(genotypes: dict[str, Path]) -> None:
    source = load_source(genotypes["local_vim"], SourceOptions(**SIZES))
    with pytest.raises(ExportMismatch, match="differ by nan"):
        compare(source, lambda images: source.logits(images) * float("nan"), tolerance=1e-4)
    with pytest.raises(ExportMismatch, match=r"gives \[2, 3\], the model \[2, 4\]"):
        compare(source, lambda images: source.logits(images)[:, :3], tolerance=1e-4)
