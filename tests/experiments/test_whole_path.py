"""The whole path runs as it stands in experiments/, and what it leaves is what the API made."""

from __future__ import annotations

import ast
import json
import runpy

import pytest
import torch
from safetensors.torch import load_file
from support.scripts import EXPERIMENTS, load_experiment

from scansearch.data import load_data
from scansearch.records.genotype import Genotype


def test_the_whole_path_ends_in_the_trained_model_as_a_file_of_its_own(tiny_space_file, tmp_path, capsys):
    out = tmp_path / "way"
    load_experiment("whole_path").main(
        ["--space", tiny_space_file, "--k", "2", "--epochs", "1", "--out", str(out)]
    )
    printed = capsys.readouterr().out
    genotype = Genotype.load(out / "genotype.yaml")
    assert [len(layer) for layer in genotype.layers] == [2, 2]
    assert f"layer 0: {' '.join(genotype.layers[0])}\n" in printed
    trained = json.loads((out / "train" / "result.json").read_text())["test"]["top1"]
    assert f"test accuracy: {trained:.2f} %" in printed

    model = runpy.run_path(str(out / "model.py"))["build"]()
    model.load_state_dict(load_file(out / "train" / "best.safetensors"))
    images, labels = zip(*map(load_data("digits", image_size=8).test.read, range(360)), strict=True)
    with torch.no_grad():
        hits = model.eval()(torch.stack(images)).argmax(1) == torch.tensor(labels)
    assert 100 * hits.double().mean() == pytest.approx(trained)


def test_the_whole_path_uses_the_public_api_alone():
    imported = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(ast.parse((EXPERIMENTS / "whole_path.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert {name for name in imported if name.split(".")[0] == "scansearch"} == {"scansearch"}
