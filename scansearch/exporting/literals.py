"""Values and imports as readable Python text, for the files that are generated."""

from __future__ import annotations

import ast
import json
import textwrap
from collections.abc import Iterable

WIDTH = 110


def literal(value: object, indent: int = 0) -> str:
    """Python text of nested dicts, lists and plain values: a dict one entry a line, a list of lists one list a line."""
    pad, inner = " " * indent, " " * (indent + 4)
    if isinstance(value, dict) and value:
        rows = [f"{inner}{literal(key)}: {literal(item, indent + 4)},\n" for key, item in value.items()]
        return "{\n" + "".join(rows) + pad + "}"
    if isinstance(value, list | tuple):
        opening, closing = "[]" if isinstance(value, list) else "()"
        items = [literal(item, indent + 4) for item in value]
        if any(isinstance(item, list | tuple | dict) for item in value):
            return opening + "\n" + "".join(f"{inner}{item},\n" for item in items) + pad + closing
        if any(isinstance(item, str) for item in value) and sum(map(len, items)) + indent > WIDTH - 30:
            return opening + "\n" + "".join(f"{inner}{item},\n" for item in items) + pad + closing
        line = ", ".join(items) + ("," if isinstance(value, tuple) and len(items) == 1 else "")
        if len(line) + indent < WIDTH - 20:
            return opening + line + closing
        filled = textwrap.fill(line + ",", WIDTH, initial_indent=inner, subsequent_indent=inner)
        return f"{opening}\n{filled}\n{pad}{closing}"
    return json.dumps(value) if isinstance(value, str) else repr(value)


def import_lines(nodes: Iterable[ast.Import | ast.ImportFrom]) -> list[str]:
    """Imports merged and sorted as isort would: future, standard library, torch, with blank lines between."""
    plain: set[str] = set()
    members: dict[str, set[str]] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            plain.update(ast.unparse(alias) for alias in node.names)
        else:
            members.setdefault(node.module or "", set()).update(ast.unparse(alias) for alias in node.names)
    groups: list[list[str]] = [[], [], []]
    for name in sorted(plain):
        groups[_group(name)].append(f"import {name}")
    for module in sorted(members):
        names = ", ".join(sorted(members[module], key=lambda name: (not name.isupper(), name)))
        groups[_group(module)].append(f"from {module} import {names}")
    return "\n\n".join("\n".join(group) for group in groups if group).split("\n")


def _group(module: str) -> int:
    return {"__future__": 0, "torch": 2}.get(module.split(".")[0].split(" ")[0], 1)
