"""The standalone file: readable, complete, and a model that runs and trains where scansearch cannot be imported."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scansearch.errors import InputError
from scansearch.exporting import export
from scansearch.exporting.source import SourceOptions, load_source
from scansearch.exporting.targets.standalone_file import plain_arguments, standalone_text
from scansearch.records.genotype import Genotype

FAMILIES = ("local_vim", "local_vmamba")

ELSEWHERE = """
import sys
for name in ("scansearch", "scansearch_kernels", "timm"):
    sys.modules[name] = None  # importing it now fails
try:
    import scansearch
except ImportError:
    pass
else:
    raise SystemExit("scansearch can be imported")
import importlib.util, torch
from safetensors.torch import load_file
torch.set_num_threads(1)
for family in sys.argv[1:]:
    specification = importlib.util.spec_from_file_location(family, family + ".py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    model = module.build()
    model.load_state_dict(load_file(family + ".safetensors"))
    given = torch.load(family + ".pt", weights_only=True)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(given["images"]), given["logits"], rtol=0, atol=1e-5)
    torch.manual_seed(0)
    model = module.build(num_classes=3, drop_path_rate=0.0).train()
    images = torch.randn(12, 1, 12, 12)
    labels = torch.arange(12) % 3
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0], losses
"""


def test_runs_and_trains_where_scansearch_cannot_be_imported(
    genotypes: dict[str, Path], tmp_path: Path
) -> None:
    for family in FAMILIES:
        export(genotypes[family], "standalone", tmp_path / f"{family}.py", num_classes=4, in_chans=1)
        export(
            genotypes[family], "safetensors", tmp_path / f"{family}.safetensors", num_classes=4, in_chans=1
        )
        source = load_source(genotypes[family], SourceOptions(num_classes=4, in_chans=1))
        images = source.images(3)
        torch.save({"images": images, "logits": source.logits(images)}, tmp_path / f"{family}.pt")
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *FAMILIES],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.mark.parametrize("family", FAMILIES)
def test_file_is_tidy_and_holds_the_genotype_as_data(
    family: str, genotypes: dict[str, Path], tmp_path: Path
) -> None:
    source = load_source(genotypes[family])
    text = standalone_text(source)
    tree = ast.parse(text)
    literals = {
        node.target.id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id.isupper()
        and node.value is not None
    }  # fmt: skip
    assert literals["GENOTYPE"]["layers"] == [list(names) for names in source.genotype.layers]
    assert literals["ARGUMENTS"] == plain_arguments(source)
    assert {name for name, _, _ in literals["ORDERS"]} == {"hilbert"}
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    outside = {name.split(".")[0] for name in imported} - set(sys.stdlib_module_names)
    assert outside == {"torch", "mamba_ssm"}
    ruff = shutil.which("ruff") or shutil.which("ruff", path=str(Path(sys.executable).parent))
    if ruff is not None:
        (tmp_path / "model.py").write_text(text)
        check = [ruff, "check", "--isolated", "--line-length=110", "--select=E,F,W,I,B,UP,SIM,C4", "model.py"]
        done = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_what_has_no_form_outside_is_refused(genotypes: dict[str, Path], tmp_path: Path) -> None:
    genotype = Genotype.load(genotypes["local_vim"])
    changed = Genotype(family="local_vim", layers=genotype.layers, model=genotype.model | {"pyramid": True})
    changed.save(tmp_path / "pyramid.yaml")
    with pytest.raises(InputError, match="pyramid True has no form outside scansearch"):
        export(tmp_path / "pyramid.yaml", "standalone", tmp_path / "model.py")
    assert not (tmp_path / "model.py").exists()
