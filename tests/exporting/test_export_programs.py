"""Programs of torch.export: they run without scansearch and are read back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support.exports import SIZES, trained

import scansearch.models
from scansearch.exporting import export
from scansearch.exporting.check import compare
from scansearch.exporting.read_program import load_program
from scansearch.exporting.source import Source, SourceOptions, load_source
from scansearch.exporting.targets import (
    standalone_file,
    torch_program,
)
from scansearch.records.genotype import Genotype

WITHOUT_SCANSEARCH = """
import sys
for name in ("scansearch", "scansearch_kernels", "timm"):
    sys.modules[name] = None
import torch
torch.set_num_threads(1)
module = torch.export.load(sys.argv[1]).module()
for images, logits in torch.load(sys.argv[2], weights_only=True):
    torch.testing.assert_close(module(images), logits, rtol=1e-5, atol=1e-5)
"""


@pytest.fixture(scope="module")
def program(genotypes: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Source]:
    folder = tmp_path_factory.mktemp("program")
    run, source = trained(genotypes, "local_vim", folder / "run")
    export(run, "torch-export", folder / "model.pt2")
    return folder / "model.pt2", source


@pytest.mark.smoke
def test_program_runs_without_scansearch_on_any_batch(program: tuple[Path, Source], tmp_path: Path) -> None:
    path, source = program
    pairs = [(source.images(batch), source.logits(source.images(batch))) for batch in (1, 2, 5)]
    torch.save(pairs, tmp_path / "pairs.pt")
    arguments = [sys.executable, "-c", WITHOUT_SCANSEARCH, str(path), str(tmp_path / "pairs.pt")]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_program_tells_nothing_of_the_machine_that_made_it(program: tuple[Path, Source]) -> None:
    here = str(Path(scansearch.models.__file__).parent.parent).encode()
    assert here not in program[0].read_bytes()
    assert b"stack_trace" not in program[0].read_bytes()


@pytest.mark.parametrize(
    ("family", "switches"),
    [
        (
            "local_vim",
            {"norm": "layer", "branch_attention": "channel+spatial", "merge": "mean", "rope": False},
        ),
        pytest.param(
            "local_vim", {"class_token": "middle", "window_padding": "zero"}, marks=pytest.mark.long
        ),
        pytest.param(
            "local_vim",
            {"branch_attention": "none", "global_pool": "last", "position_embedding": False},
            marks=pytest.mark.long,
        ),
        ("local_vmamba", {"img_size": 14, "global_pool": "", "drop_path_rate": 0.2}),
    ],
)
def test_programs_of_other_switches_are_read_back(
    family: str, switches: dict[str, Any], genotypes: dict[str, Path], tmp_path: Path
) -> None:
    genotype = Genotype.load(genotypes[family])
    changed = Genotype(family=genotype.family, layers=genotype.layers, model=genotype.model | switches)
    changed.save(tmp_path / "changed.yaml")
    source = load_source(tmp_path / "changed.yaml", SourceOptions(**SIZES))
    torch.export.save(
        torch_program.trace(standalone_file.plain_model(source), source), tmp_path / "model.pt2"
    )
    module = load_program(tmp_path / "model.pt2").module()
    compare(source, lambda images: module(images).detach(), tolerance=1e-5, batches=(1, 4))
