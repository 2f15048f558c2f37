"""Reading ``.pt2`` programs of unknown origin.

``torch.export.load`` unpickles without restriction, loads compiled libraries and evaluates expressions as Python, so
a file is first held against what scansearch's own exports consist of; anything else in it is refused unread. torch
then gets a new archive of the entries that were checked.
"""

from __future__ import annotations

import io
import json
import keyword
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scansearch.data.treatment import Treatment
from scansearch.errors import InputError
from scansearch.files.archives import check_archive, read_archive, write_archive
from scansearch.files.strict import parse_json

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
_SYMBOL = r"Symbol\('s\d{1,9}'(, (positive|nonnegative|integer)=True)*\)"  # the number of images
_EXPRESSION = re.compile(rf"({_SYMBOL}|Mul|Add|Integer|\b[0-9]{{1,15}}\b|[ ,+()-]|(?<!\*)\*(?!\*))+")
_LONGEST_EXPRESSION = 400
_NAME = re.compile(
    r"data/weights/weight_\d+|data/weights/model_weights_config\.json|data/constants/tensor_\d+"
    r"|data/constants/model_constants_config\.json|models/model\.json|data/sample_inputs/model\.pt"
    r"|archive_format|archive_version|byteorder|\.data/(version|serialization_id|alignment)|\.format_version"
    r"|\.storage_alignment|extra/treatment\.json"
)
# torch writes names into Python code that it then runs, and evaluates other texts: only these forms pass.
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN = re.compile(r"[A-Za-z0-9_.+-]*")
_NAMES = frozenset(["name", "as_name", "as_sym_int", "forward_arg_names"])
_SPECIFICATIONS = frozenset(["in_spec", "out_spec"])
TREATMENT = "treatment.json"
_EXTRA = "/extra/" + TREATMENT
_LARGEST_JSON = 2**25
_LARGEST_VALUE = 2**31
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
    source = str(path)
    entries = read_archive(path, source)
    tops = {name.partition("/")[0] for name in entries}
    unexpected = [name for name in entries if not _NAME.fullmatch(name.partition("/")[2])]
    if unexpected or len(tops) > 1:
        odd = unexpected[0].partition("/")[2] if unexpected else max(tops)
        raise InputError(f"{path}: holds {odd[:60]!r}, which no program of scansearch has")
    entries = {name: content for name, content in entries.items() if not name.endswith(_EXTRA)}
    try:
        # torch reads archives with a reader of its own: it gets a new one of what was checked, never the file.
        checked = {name: _checked(name, content, entries, source) for name, content in entries.items()}
        program = torch.export.load(write_archive(checked))
        _check_sizes(program, source)
        return program
    except InputError:
        raise
    except Exception as error:  # whatever a damaged file makes torch raise
        raise InputError(f"{path}: not a program of scansearch ({_first_line(error)})") from None


def read_treatment(path: str | Path) -> Treatment | None:
    """What a ``.pt2`` file says of its images and classes; None where it says nothing.

    Raises:
        InputError: no archive, or a damaged entry.
    """
    source = str(path)
    for name, content in read_archive(Path(path), source).items():
        if name.endswith(_EXTRA):
            if len(content) > _LARGEST_JSON:
                raise InputError(f"{source}: {name[:60]!r} is larger than {_LARGEST_JSON} bytes")
            return parse_json(content.decode(errors="replace"), Treatment, source=f"{source}: treatment")
    return None


def _checked(name: str, content: bytes, entries: Mapping[str, bytes], source: str) -> bytes:
    """What torch may read in place of ``content``."""
    if name.endswith(".json") and len(content) > _LARGEST_JSON:
        raise InputError(f"{source}: {name[:60]!r} is larger than {_LARGEST_JSON} bytes")
    if name.endswith("_config.json"):
        data = json.loads(content)
        for key, item in data["config"].items():
            if not _PLAIN.fullmatch(key):
                raise InputError(f"{source}: a key {key[:60]!r} is no plain name")
            _check_tensor(item, name, entries, source)
        return json.dumps(data).encode()
    if name.endswith("model.json"):
        data = json.loads(content)
        check_graph(data, source)
        return json.dumps(data).encode()
    return _checked_inputs(content, source) if name.endswith(".pt") else content


def _check_tensor(item: Mapping[str, Any], name: str, entries: Mapping[str, bytes], source: str) -> None:
    if item["use_pickle"] is not False:
        raise InputError(f"{source}: holds pickled tensors, which could run code")
    payload = f"{name.rpartition('/')[0]}/{item['path_name']}"
    sizes = [size["as_int"] for size in item["tensor_meta"]["sizes"]]
    if payload not in entries or math.prod(sizes) > len(entries[payload]):
        raise InputError(f"{source}: a tensor of {sizes} is larger than its content")


def _checked_inputs(content: bytes, source: str) -> bytes:
    """The example inputs, written anew."""
    import pickle

    import torch

    check_archive(io.BytesIO(content), f"{source}: example inputs")
    try:
        inputs = torch.load(io.BytesIO(content), weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError):
        raise InputError(f"{source}: its example inputs could run code") from None
    buffer = io.BytesIO()
    torch.save(inputs, buffer)
    return buffer.getvalue()


def _check_sizes(program: torch.export.ExportedProgram, source: str) -> None:
    """Refuse a program that makes a huge tensor of one image. It runs without memory, on shapes alone.

    Raises:
        InputError: a tensor above 2 GiB, or operations that do not fit together.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    huge: list[list[int]] = []

    class Shapes(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> Any:
            value = super().run_node(n)
            for part in value if isinstance(value, list | tuple) else [value]:
                if isinstance(part, torch.Tensor) and part.numel() * part.element_size() > _LARGEST_VALUE:
                    huge.append(list(part.shape))
            return value

    signature = program.graph_signature
    tensors = {**program.state_dict, **program.constants}
    sources = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    mode = FakeTensorMode()
    inputs: list[torch.Tensor] = []
    for node in program.graph.nodes:
        if node.op != "placeholder":
            continue
        if node.name in sources:
            inputs.append(mode.from_tensor(tensors[sources[node.name]].detach()))
            continue
        shape = [size if isinstance(size, int) else 1 for size in node.meta["val"].shape]
        if math.prod(shape) * 8 > _LARGEST_VALUE:
            raise InputError(f"{source}: takes images of {shape}, above 2 GiB")
        with mode:
            inputs.append(torch.empty(shape, dtype=node.meta["val"].dtype))
    with mode, torch.no_grad():
        Shapes(program.graph_module).run(*inputs)
    if huge:
        raise InputError(f"{source}: makes a tensor of {huge[0]}, above 2 GiB for one image")


def check_graph(program: dict[str, Any], source: str) -> None:
    """Raise an InputError unless a program's JSON consists of known operations, names and integers."""
    module = program["graph_module"]
    if program["guards_code"] or module["treespec_namedtuple_fields"] or module["metadata"]:
        raise InputError(f"{source}: holds guards or types as code")
    for key, value in _pairs(program):
        if not _PLAIN.fullmatch(key):
            raise InputError(f"{source}: a key {key[:60]!r} is no plain name")
        if key == "expr_str" and not _is_expression(value):
            raise InputError(f"{source}: a size {str(value)[:60]!r} is no plain expression")
        if key in _FORBIDDEN or (key in ("metadata", "custom_obj_values") and value):
            raise InputError(f"{source}: holds {key!r}, which no program of scansearch has")
        for text in _texts(value):
            _check_text(key, text, source)
    symbols = [name for name in program["range_constraints"] if not re.fullmatch(r"s\d+", name)]
    if symbols:
        raise InputError(f"{source}: a size {symbols[0][:60]!r} is no plain symbol")


def _texts(value: Any) -> list[str]:
    """``value`` where it is a text, and its members that are."""
    return [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]


def _check_text(key: str, text: str, source: str) -> None:
    if key == "target":
        match = _TARGET.fullmatch(text)
        if match is None or (match[1] is not None and match[1] not in OPERATIONS):
            raise InputError(f"{source}: uses {text[:60]!r}, which no program of scansearch does")
    elif key in _SPECIFICATIONS:
        if not _is_specification(text):
            raise InputError(f"{source}: takes or gives {text[:60]!r}, which is no plain list, tuple or dict")
    elif key in _NAMES:
        if text and (not _IDENTIFIER.fullmatch(text) or keyword.iskeyword(text)):
            raise InputError(f"{source}: a name {text[:60]!r} is no plain name")
    elif key != "expr_str" and not _PLAIN.fullmatch(text):
        raise InputError(f"{source}: a text {text[:60]!r}, which no program of scansearch has")


def _is_expression(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_EXPRESSION and bool(_EXPRESSION.fullmatch(value))


def _is_specification(text: str) -> bool:
    """Whether a tree of arguments consists of tuples, lists and dicts with names as keys: torch imports others."""
    try:
        protocol, top = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return False
    return protocol == 1 and _is_plain_tree(top, depth=0)


def _is_plain_tree(node: Any, depth: int) -> bool:
    if depth > 10 or not isinstance(node, dict) or set(node) != {"type", "context", "children_spec"}:
        return False
    kind, context, children = node["type"], node["context"], node["children_spec"]
    if not isinstance(children, list):
        return False
    if kind == "builtins.dict":
        try:
            keys = json.loads(context)
        except (ValueError, TypeError, RecursionError):
            return False
        fits = isinstance(keys, list) and all(isinstance(key, str) and _PLAIN.fullmatch(key) for key in keys)
    else:
        fits = (kind, context) in ((None, None), ("builtins.tuple", "null"), ("builtins.list", "null"))
    return fits and all(_is_plain_tree(child, depth + 1) for child in children)


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
