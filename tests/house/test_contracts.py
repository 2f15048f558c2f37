"""The rules of the house, read off the code without running it: who may import whom, who writes, who prints.

A new file needs a place in LAYERS. docs/architecture.md tells the same rules in words.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {"scansearch": ROOT / "scansearch", "scansearch_kernels": ROOT / "kernels" / "scansearch_kernels"}

# Top to bottom. A room imports from lines below its own only; rooms on one line do not know each other.
LAYERS = [
    ["__main__"],
    ["cli", "__init__"],
    ["analysis"],
    ["runs"],
    ["plots", "bench", "testing"],
    ["evaluation"],
    ["exporting", "searching", "training", "derivation"],
    ["costing"],
    ["tasks"],
    ["engine"],
    ["records"],
    ["models", "data", "display"],
    ["directions", "files", "seeding"],
    ["errors", "text", "_version"],
]
# (file, room that it may import all the same): why.
EXCEPTIONS = {
    ("models/registry.py", "records"): "timm's entry points take a genotype's file",
}
WRITERS = {"runs", "records", "files", "exporting", "cli"}  # other rooms return values or yield events
WRITES_TOO = {
    "bench/peak.py": "asks Linux to forget a process's peak of memory, by writing to /proc",
    "costing/latency.py": "the cache of measured figures, in the user's cache folder",
    "analysis/fidelity.py": "finished trainings, so that a ranking goes on where it was",
    "searching/shared_study.py": "the journal that the caller names, and its lock",
}
ONE_ROOM = {  # a library is known in one room
    "yaml": {"files"},
    "scipy": {"derivation"},
    "optuna": {"searching"},
    "matplotlib": {"plots", "files", "display"},  # files writes its figures, display names their type
    "typer": {"cli"},
    "rich": {"cli", "runs"},  # runs shows progress, from Python too
    "IPython": {"runs"},
    "pandas": {"analysis", "display"},  # analysis reads a table with it, display makes those of values
    "sklearn": {"data"},
    "psutil": {"engine"},
}
LEVEL = {room: len(LAYERS) - index for index, rooms in enumerate(LAYERS) for room in rooms}


@dataclass(frozen=True)
class Import:
    """One imported name; ``module`` and ``name`` as written, ``name`` empty for ``import module``."""

    module: str
    name: str
    line: int


def files(package: str) -> list[Path]:
    return sorted(SOURCES[package].rglob("*.py"))


def short(path: Path) -> str:
    package = next(folder for folder in SOURCES.values() if path.is_relative_to(folder))
    return path.relative_to(package).as_posix()


def room(path: Path) -> str:
    return short(path).split("/")[0].removesuffix(".py")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[Import]:
    """Every import, those inside functions and those for type checkers too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, "", node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield from (Import(node.module or "", alias.name, node.lineno) for alias in node.names)


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            yield name, node


OURS = pytest.mark.parametrize("path", files("scansearch"), ids=short)
KERNELS = pytest.mark.parametrize("path", files("scansearch_kernels"), ids=short)
EVERYWHERE = pytest.mark.parametrize("path", files("scansearch") + files("scansearch_kernels"), ids=short)


def test_the_rules_see_the_code() -> None:
    assert len(files("scansearch")) > 80
    assert len(files("scansearch_kernels")) > 20


def test_the_architecture_page_shows_these_layers() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    lines = page.split("```layers\n")[1].split("```")[0].splitlines()
    # two spaces end the names of a line; the rest says what they are
    assert [line.split("  ")[0].split(", ") for line in lines] == LAYERS


@OURS
def test_every_file_has_a_place_and_imports_only_from_below(path: Path) -> None:
    mine = room(path)
    assert mine in LEVEL, f"{mine} has no place in the house: add it to LAYERS"
    for entry in imports(path):
        parts = entry.module.split(".")
        if parts[0] != "scansearch":
            continue
        theirs = parts[1] if len(parts) > 1 else entry.name if entry.name in LEVEL else "__init__"
        below = theirs == mine or LEVEL.get(theirs, 99) < LEVEL[mine]
        assert below or (short(path), theirs) in EXCEPTIONS, (
            f"{path}:{entry.line}: {mine} must not import {theirs}"
        )


def test_every_exception_is_needed() -> None:
    for name, theirs in EXCEPTIONS:
        modules = [entry.module for entry in imports(ROOT / "scansearch" / name)]
        assert any(module.startswith(f"scansearch.{theirs}") for module in modules), (name, theirs)


@KERNELS
def test_the_kernels_know_nothing_of_scansearch(path: Path) -> None:
    assert [entry for entry in imports(path) if entry.module.split(".")[0] == "scansearch"] == []


@EVERYWHERE
def test_no_private_name_is_taken_from_another_file(path: Path) -> None:
    taken = [
        f"{path}:{entry.line}: {entry.name}"
        for entry in imports(path)
        if entry.module.split(".")[0] in SOURCES
        and entry.name.startswith("_")
        and not entry.name.startswith("__")
    ]
    assert taken == []


@OURS
def test_only_some_rooms_write_files(path: Path) -> None:
    for name, call in calls(path):
        mode = call.args[1] if name == "open" and len(call.args) > 1 else None
        opened = isinstance(mode, ast.Constant) and str(mode.value)[:1] in ("w", "a", "x")
        if name in ("write_text", "write_bytes", "write_figure", "mkdir", "savefig") or opened:
            assert room(path) in WRITERS or short(path) in WRITES_TOO, f"{path}:{call.lineno} writes a file"


@EVERYWHERE
def test_only_the_command_line_prints(path: Path) -> None:
    may = room(path) in ("cli", "bench") if path in files("scansearch_kernels") else room(path) == "cli"
    printing = [
        call.lineno for name, call in calls(path) if name == "print" and isinstance(call.func, ast.Name)
    ]
    assert may or printing == [], f"{path}: prints in lines {printing}"


@OURS
def test_a_library_is_known_in_one_room(path: Path) -> None:
    for entry in imports(path):
        homes = ONE_ROOM.get(entry.module.split(".")[0])
        assert homes is None or room(path) in homes, f"{path}:{entry.line}: {entry.module} belongs to {homes}"


@EVERYWHERE
def test_no_file_is_longer_than_about_400_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 410


# --- circles --------------------------------------------------------------------------------------------


def module_name(path: Path) -> str:
    package = next(name for name, folder in SOURCES.items() if path.is_relative_to(folder))
    parts = [package, *short(path).removesuffix(".py").split("/")]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_graph() -> dict[str, set[str]]:
    """Module -> modules of ours that it imports, lazily or for types too."""
    modules = {module_name(path): path for package in SOURCES for path in files(package)}
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        targets = set()
        for entry in imports(path):
            inner = f"{entry.module}.{entry.name}"
            target = inner if inner in modules else entry.module
            if target in modules and target != name:
                targets.add(target)
        graph[name] = targets
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of more than one module of which each reaches every other."""

    @cache
    def reached(start: str) -> frozenset[str]:
        seen, queue = set(), [start]
        while queue:
            for target in graph[queue.pop()] - seen:
                seen.add(target)
                queue.append(target)
        return frozenset(seen)

    groups = {frozenset({a, *(b for b in reached(a) if a in reached(b))}) for a in graph}
    return [sorted(group) for group in groups if len(group) > 1]


def test_circles_are_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_no_modules_import_each_other_in_a_circle() -> None:
    # The package's face names everything for type checkers; nothing of ours imports the face.
    assert circles(import_graph()) == []
