"""Torch and ONNX files that are damaged or odd: refused in one line, whatever their readers raise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.commands import call

TENSORS: dict[str, Any] = {"head.weight": torch.zeros(2, 4), "head.bias": torch.zeros(2)}
ODD: dict[str, Any] = {
    "a tensor": torch.zeros(3),
    "a list": [torch.zeros(3)],
    "nothing": {},
    "numbers as names": {1: torch.zeros(3)},
    "a scalar head": {"head.weight": torch.tensor(3.0)},
    "a sparse tensor": {"head.weight": torch.eye(3).to_sparse()},
    "a tensor without memory": {"head.weight": torch.empty(3, 3, device="meta")},
    "a huge view": {"head.weight": torch.zeros(1).expand(10**9, 192)},
    "other names": {"\x1b[2J": torch.zeros(3)},
    "a deep mapping": {"model": {"model": {"model": {}}}},
}


@pytest.fixture
def converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[Path], tuple[int, str]]:
    """Exit code and error of ``scansearch convert`` of a file."""

    def convert(path: Path) -> tuple[int, str]:
        out = tmp_path / "out.safetensors"
        code, _, error = call(capsys, "convert", str(path), "--model", "vim_tiny", "--out", str(out))
        assert not out.exists()
        return code, error

    return convert


@pytest.mark.parametrize("case", ODD)
def test_odd_checkpoints_are_refused(
    case: str, converted: Callable[[Path], tuple[int, str]], tmp_path: Path
) -> None:
    torch.save(ODD[case], tmp_path / "odd.pth")
    code, error = converted(tmp_path / "odd.pth")
    assert (code, error.count("\n")) == (2, 1), error
    assert "\x1b" not in error


@pytest.mark.parametrize("new_format", [True, False])
def test_damaged_checkpoints_are_refused(
    new_format: bool, converted: Callable[[Path], tuple[int, str]], tmp_path: Path
) -> None:
    """None of these tensors fits the model, so whatever is read is refused, too."""
    path = tmp_path / "damaged.pth"
    torch.save(TENSORS, path, _use_new_zipfile_serialization=new_format)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(40):
        content = bytearray(whole)
        for position in rng.integers(0, len(content), int(rng.integers(1, 4))).tolist():
            content[position] = int(rng.integers(256))
        if rng.random() < 0.3:
            content = content[: int(rng.integers(len(content)))]
        path.write_bytes(content)
        code, error = converted(path)
        assert (code, error.count("\n")) == (2, 1), error


def onnx_file(
    path: Path, *, kind: int = 1, inputs: int = 1, outputs: int = 1, axes: int = 4, op: str = "Relu"
) -> None:
    """A graph of one operation."""
    import onnx
    from onnx import helper

    shape = [1, 3, 8, 8][:axes]
    values = [helper.make_tensor_value_info(f"i{n}", kind, shape) for n in range(inputs)]
    results = [helper.make_tensor_value_info(f"o{n}", kind, shape) for n in range(outputs)]
    nodes = [helper.make_node(op, ["i0"] if inputs else [], [f"o{n}"]) for n in range(outputs)]
    graph = helper.make_graph(nodes, "odd", values, results)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


ONNX: dict[str, dict[str, Any]] = {
    "logits of four axes": {},
    "two inputs": {"inputs": 2},
    "no input": {"inputs": 0},
    "two outputs": {"outputs": 2},
    "texts": {"kind": 8, "op": "Identity"},
    "numbers that are whole": {"kind": 7, "op": "Identity"},
    "images of two axes": {"axes": 2},
    "an unknown operation": {"op": "Exec"},
}


@pytest.mark.parametrize("case", ONNX)
def test_odd_onnx_files_are_refused(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    onnx_file(tmp_path / "odd.onnx", **ONNX[case])
    code, _, error = call(capsys, "evaluate", str(tmp_path / "odd.onnx"), "--data", "fake:8x8:4")
    assert (code, error.count("error: ")) == (2, 1), error


def test_damaged_onnx_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    path = tmp_path / "damaged.onnx"
    onnx_file(path)
    whole = path.read_bytes()
    for content in (b"", b"\0" * 50, whole[: len(whole) // 2], whole[::-1]):
        path.write_bytes(content)
        code, _, error = call(capsys, "evaluate", str(path), "--data", "fake:8x8:4")
        assert (code, error.count("error: ")) == (2, 1), error
