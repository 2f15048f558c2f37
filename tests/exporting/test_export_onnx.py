"""ONNX: the same logits in onnxruntime for any batch, a small graph, and a clear word where the extra is missing."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path

import pytest
import torch

from scansearch.errors import MissingExtra
from scansearch.exporting import export
from scansearch.exporting.check import ExportMismatch
from scansearch.exporting.source import Source, SourceOptions, load_source
from scansearch.exporting.targets import onnx_graph
from scansearch.exporting.targets.standalone_file import plain_model

MISSING = [name for name in ("onnx", "onnxruntime", "onnxscript") if importlib.util.find_spec(name) is None]
needs_onnx = pytest.mark.skipif(bool(MISSING), reason=f"extra onnx is not installed ({', '.join(MISSING)})")


@pytest.mark.smoke
@needs_onnx
@pytest.mark.parametrize("family", [pytest.param("local_vmamba", marks=pytest.mark.long), "local_vim"])
def test_onnxruntime_gives_the_same_logits_for_any_batch(
    family: str, genotypes: dict[str, Path], tmp_path: Path
) -> None:
    import onnx

    done = export(genotypes[family], "onnx", tmp_path / "model.onnx", num_classes=4, in_chans=1)
    assert done.difference <= 1e-4
    source = load_source(genotypes[family], SourceOptions(num_classes=4, in_chans=1))
    session = onnx_graph.session(done.out)
    for batch in (1, 2, 5):
        images = source.images(batch)
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), source.logits(images), rtol=1e-4, atol=1e-4)
    graph = onnx.load(done.out)
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert str(Path(onnx_graph.__file__).parent.parent.parent).encode() not in done.out.read_bytes()


@needs_onnx
@pytest.mark.long
def test_a_wrong_graph_leaves_no_file(
    genotypes: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(source: Source) -> torch.nn.Module:
        model = plain_model(source)
        model.get_submodule("head").weight.data[0, 0] += 0.1
        return model

    monkeypatch.setattr(onnx_graph, "plain_model", spoiled)
    with pytest.raises(ExportMismatch, match="logits differ by"):
        export(genotypes["local_vim"], "onnx", tmp_path / "model.onnx", num_classes=4, in_chans=1)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_with_its_extra(
    genotypes: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name)
    )
    with pytest.raises(MissingExtra, match=r"needs onnxscript: pip install 'scansearch\[onnx\]'"):
        export(genotypes["local_vim"], "onnx", tmp_path / "model.onnx", num_classes=4, in_chans=1)
    assert list(tmp_path.iterdir()) == []


@needs_onnx
@pytest.mark.long
def test_localvim_tiny_at_224_is_a_small_graph_made_in_two_minutes(tmp_path: Path) -> None:
    import onnx

    start = time.process_time()  # of this process alone, whatever else the machine does
    export("localvim_tiny", "onnx", tmp_path / "model.onnx")
    assert time.process_time() - start < 120
    assert len(onnx.load(tmp_path / "model.onnx").graph.node) < 10_000
