"""The published models go out in every format at their own size, and come back with the same logits."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from scansearch.exporting import FORMATS, export

SUFFIX = {"standalone": ".py", "timm": ".py", "torch-export": ".pt2", "hub": ""}


@pytest.mark.long
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("model", ["localvim_tiny", "localvmamba_tiny"])
def test_published_models_go_out_in_every_format(model: str, format: str, tmp_path: Path) -> None:
    """The export itself runs what it wrote and compares."""
    if format == "onnx" and importlib.util.find_spec("onnxscript") is None:
        pytest.skip("the extra onnx is not installed")
    out = tmp_path / f"exported_{model}{SUFFIX.get(format, f'.{format}')}"
    done = export(model, format, out)
    assert out.exists()
    assert done.difference <= (1e-4 if format == "onnx" else 1e-5)
