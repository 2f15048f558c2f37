"""One readable Python file with the model; it needs only torch.

Made from ``templates/shared.py`` and the family's template: their imports joined, the genotype filled in.
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from scansearch.directions import parse_direction
from scansearch.errors import InputError
from scansearch.exporting.check import compare, given, publish, run_child, staging
from scansearch.exporting.literals import import_lines, literal
from scansearch.exporting.picture_settings import brightest, class_names, picture_settings
from scansearch.exporting.source import Source
from scansearch.exporting.templates import local_vim, local_vmamba, shared

SUFFIXES = (".py",)
TEMPLATES: dict[str, ModuleType] = {"local_vim": local_vim, "local_vmamba": local_vmamba}
CLASSES: dict[str, type[torch.nn.Module]] = {
    "local_vim": local_vim.LocalVim,
    "local_vmamba": local_vmamba.LocalVMamba,
}
# Orders that the templates compute themselves; any other is written out as a table.
_COMPUTED = re.compile(r"h|v|w\d+")

_HEADER = '''"""{model}, genotype {hash}: a vision state-space model with its own scan directions in every layer.

Made by scansearch; needs only torch (on a GPU, mamba-ssm's scan is used where it is installed). Use:

    model = build()                       # fresh weights; build(num_classes=10) and so on for other sizes
    model.load_state_dict(...)            # takes weights that scansearch trained, and the other way round

Images are [batch, {channels}, height, width]; made for {height}x{width} pixels{sizes}.
PICTURES says what the training made of pictures: resized so that this part (crop_pct) of the shorter side
remains, cut to size, scaled to 0..1 (float pictures divided by brightest, where it is told), less mean,
divided by std. It names the classes where they are known.
"""
'''

_CHECK = """
import sys
for name in ("scansearch", "scansearch_kernels", "timm", "safetensors", "numba", "scipy", "pydantic"):
    sys.modules[name] = None  # importing it now fails
import importlib.util, torch
path, folder = sys.argv[1:]
specification = importlib.util.spec_from_file_location("exported", path)
module = importlib.util.module_from_spec(specification)
specification.loader.exec_module(module)
torch.set_num_threads(1)
given = torch.load(folder + "/given.pt", weights_only=True)
model = module.build().eval()
model.load_state_dict(given["state"])
with torch.no_grad():
    torch.save(model(given["images"]), folder + "/logits.pt")
"""


def plain_arguments(source: Source) -> dict[str, Any]:
    """The arguments of the template's class.

    Raises:
        InputError: the model has something that only the original class has.
    """
    known = set(inspect.signature(CLASSES[source.genotype.family]).parameters) - {"directions"}
    arguments = source.all_arguments
    for name in set(arguments) - known:
        # What is left concerns feature maps and supernets: dead weight at its default, missing otherwise.
        default = inspect.signature(type(source.model)).parameters[name].default
        value = tuple(arguments[name]) if isinstance(arguments[name], list) else arguments[name]
        if value != default and name != "features":
            raise InputError(
                f"{name} {arguments[name]!r} has no form outside scansearch: a classifier is exported"
            )
    return {name: value for name, value in arguments.items() if name in known}


def order_tables(source: Source) -> dict[tuple[str, int, int], list[int]]:
    """Orders of all directions that the template cannot compute, on the model's own grids."""
    tables = {}
    grids = source.model.mixer_grids(*source.image_size)
    for mixer, (height, width) in zip(source.model.mixers, grids, strict=True):
        for name in mixer.directions:
            base = name.removesuffix("_flip")
            if not _COMPUTED.fullmatch(base):
                tables[base, height, width] = parse_direction(base).order(height, width, "zero").tolist()
    return tables


def standalone_text(source: Source) -> str:
    """The file's source."""
    template = TEMPLATES[source.genotype.family]
    arguments, tables = plain_arguments(source), order_tables(source)
    genotype = {
        "family": source.genotype.family,
        "hash": source.genotype.hash,
        "layers": [list(names) for names in source.genotype.layers],
    }
    pictures = {
        "size": source.image_size,
        **picture_settings(source),
        **brightest(source),
        "classes": list(class_names(source)),
    }
    filled = {
        "ORDERS": f"ORDERS: dict[tuple[str, int, int], list[int]] = {literal(tables)}",
        "GENOTYPE": f"GENOTYPE: dict[str, Any] = {literal(genotype)}",
        "PICTURES": f"PICTURES: dict[str, Any] = {literal(pictures)}",
        "ARGUMENTS": f"ARGUMENTS: dict[str, Any] = {literal(arguments)}",
    }
    imports, common = _split(inspect.getsource(shared), filled)
    more, family = _split(inspect.getsource(template), filled)
    literals, classes = family.split("\n\n\n", 1)
    height, width = source.image_size
    header = _HEADER.format(
        model=type(source.model).__name__,
        hash=source.genotype.hash,
        channels=source.model.in_chans,
        height=height,
        width=width,
        sizes=", the only size that its orders are known for" if tables else ", but any size works",
    )
    optional, common = common.split("\n\n", 1)
    top = "\n".join([header, *import_lines([*imports, *more]), "", optional, "", literals])
    return f"{top}\n\n{common}\n\n\n{classes}\n"


def _split(source: str, filled: dict[str, str]) -> tuple[list[ast.Import | ast.ImportFrom], str]:
    """The imports of a module (those from scansearch left out), and the text after them, literals filled in."""
    lines = source.splitlines()
    imports: list[ast.Import | ast.ImportFrom] = []
    end = 0
    edits: list[tuple[int, int, str]] = []
    for node in ast.parse(source).body:
        last = node.end_lineno or node.lineno
        if isinstance(node, ast.Import | ast.ImportFrom):
            end = last
            if not (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("scansearch")):
                imports.append(node)
        elif (
            isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id in filled
        ):
            edits.append((node.lineno, last, filled[node.target.id]))
    for first, last, text in reversed(edits):
        lines[first - 1 : last] = text.splitlines()
    return imports, "\n".join(lines[end:]).strip("\n")


def export(source: Source, out: Path) -> float:
    """Checked by running it with the source's weights in a process in which nothing but torch can be imported."""
    text = standalone_text(source)
    with staging() as folder:
        staged = folder / "standalone.py"
        staged.write_text(text, encoding="utf-8")
        (folder / "given.pt").write_bytes(given(source, source.images()))
        run_child(_CHECK, folder, str(staged), str(folder))
        logits = torch.load(folder / "logits.pt", weights_only=True)
        difference = compare(source, lambda _: logits, tolerance=1e-5)
        publish(staged, out)
        return difference


def plain_model(source: Source) -> torch.nn.Module:
    """The source model, weights included, as the template's class: what can be traced to plain torch operations."""
    shared.ORDERS.update(order_tables(source))
    model = CLASSES[source.genotype.family](source.genotype.layers, **plain_arguments(source))
    model.load_state_dict(source.model.state_dict())
    return model.eval()
