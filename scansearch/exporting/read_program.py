"""Reading ``.pt2`` programs of unknown origin.

``torch.export.load`` unpickles without restriction, loads compiled libraries and evaluates expressions as Python, so
a file is first held against what scansearch's own exports consist of; anything else in it is refused unread.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scansearch.errors import InputError
from scansearch.files.archives import check_archive

if TYPE_CHECKING:
    import torch

# Every operation that the models' programs use. None of them opens a file or runs given code.
# fmt: off
OPERATIONS = frozenset([
    "add", "arange", "cat", "chunk", "clone", "contiguous", "conv2d", "dropout", "exp", "expand",
    "expand_as", "flatten", "gelu", "index_select", "layer_norm", "linear", "matmul", "mean", "mul", "narrow", "neg",
    "pad", "permute", "rms_norm", "select", "sigmoid", "silu", "slice", "softplus", "split_with_sizes",
    "squeeze", "stack", "sub", "sum", "sym_size", "transpose", "unbind", "unflatten", "unsqueeze", "view",
    "zeros_like",
])
# fmt: on
_TARGET = re.compile(r"torch\.ops\.aten\.(\w+)\.\w+|_operator\.(getitem|add|mul|sub|floordiv)")
_SYMBOL = r"Symbol\('s\d+'(, (positive|nonnegative|integer)=True)*\)"  # the number of images
_EXPRESSION = re.compile(rf"({_SYMBOL}|Mul|Add|Integer|[0-9 ,*+()-])+")
_NAME = re.compile(
    r"data/weights/weight_\d+|data/weights/model_weights_config\.json|data/constants/tensor_\d+"
    r"|data/constants/model_constants_config\.json|models/model\.json|data/sample_inputs/model\.pt"
    r"|archive_format|archive_version|byteorder|\.data/(version|serialization_id|alignment)|\.format_version"
    r"|\.storage_alignment"
)
_FORBIDDEN = {"as_graph", "as_graphs", "as_operator", "as_custom_obj", "as_complex"}


def load_program(path: str | Path) -> torch.export.ExportedProgram:
    """The program in a ``.pt2`` file that scansearch exported; ``.module()`` of it maps images to logits.

    Raises:
        InputError: no such file, or anything in it that scansearch's exports do not have.
    """
    import torch

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    names = [name.partition("/")[2] for name in check_archive(path, str(path))]
    unexpected = [name for name in names if not _NAME.fullmatch(name)]
    if unexpected:
        raise InputError(f"{path}: holds {unexpected[0][:60]!r}, which no program of scansearch has")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_content(archive, str(path))
        return torch.export.load(path)
    except InputError:
        raise
    except Exception as error:  # whatever a damaged file makes torch raise
        raise InputError(f"{path}: not a program of scansearch ({_first_line(error)})") from None


def _check_content(archive: zipfile.ZipFile, source: str) -> None:
    for entry in archive.namelist():
        name = entry.partition("/")[2]
        if name.endswith("_config.json"):
            items = json.loads(archive.read(entry))["config"].values()
            if any(item["use_pickle"] is not False for item in items):
                raise InputError(f"{source}: holds pickled tensors, which could run code")
        elif name.endswith(".pt"):
            _check_inputs(archive.read(entry), source)
        elif name.endswith("model.json"):
            check_graph(json.loads(archive.read(entry)), source)


def _check_inputs(content: bytes, source: str) -> None:
    import pickle

    import torch

    check_archive(io.BytesIO(content), f"{source}: example inputs")
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError):
        raise InputError(f"{source}: its example inputs could run code") from None


def check_graph(program: dict[str, Any], source: str) -> None:
    """Raise an InputError unless a program's JSON consists of known operations, names and integers."""
    module = program["graph_module"]
    if program["guards_code"] or module["treespec_namedtuple_fields"] or module["metadata"]:
        raise InputError(f"{source}: holds guards or types as code")
    for key, value in _pairs(program):
        if key == "target" and isinstance(value, str):
            match = _TARGET.fullmatch(value)
            if match is None or (match[1] is not None and match[1] not in OPERATIONS):
                raise InputError(f"{source}: uses {value[:60]!r}, which no program of scansearch does")
        elif key == "expr_str" and not (isinstance(value, str) and _EXPRESSION.fullmatch(value)):
            raise InputError(f"{source}: a size {str(value)[:60]!r} is no plain expression")
        elif key in _FORBIDDEN or (key in ("metadata", "custom_obj_values") and value):
            raise InputError(f"{source}: holds {key!r}, which no program of scansearch has")
    symbols = [name for name in program["range_constraints"] if not re.fullmatch(r"s\d+", name)]
    if symbols:
        raise InputError(f"{source}: a size {symbols[0][:60]!r} is no plain symbol")


def _pairs(data: Any) -> Iterator[tuple[str, Any]]:
    """Every key and value, at any depth."""
    stack = [data]
    while stack:
        current = stack.pop()
        if isinstance(current, dict):
            yield from current.items()
            stack.extend(current.values())
        elif isinstance(current, list):
            stack.extend(current)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
