"""What the pages for developers name exists: files, and environment variables."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    "CONTRIBUTING.md",
    "docs/api.md",
    "docs/architecture.md",
    "docs/concepts.md",
    "docs/dense.md",
    "docs/glossary.md",
    "docs/images.md",
    "docs/measured.md",
    "docs/own.md",
    "docs/paper.md",
    "docs/start.md",
    "docs/strategies.md",
    "docs/timm.md",
    "experiments/README.md",
    "search_spaces/README.md",
]
FOLDERS = ("scansearch", "kernels", "tests", "experiments", "docs", "search_spaces")
# Variables of the system and of Python itself.
SYSTEM = {"HOME", "PYTHONPATH"}


def named_files(page: str) -> Iterator[str]:
    """Everything in backticks that is written as a path of this repository, or as one below scansearch/."""
    rooms = {path.name for path in (ROOT / "scansearch").iterdir() if path.is_dir()}
    for text in re.findall(r"`([^`\s]+)`", (ROOT / page).read_text(encoding="utf-8")):
        first = text.split("/")[0]
        if "/" not in text or re.search(r"[*<>]|NAME", text):
            continue
        if first in FOLDERS:
            yield text
        elif first in rooms:
            yield f"scansearch/{text}"


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_exists(page: str) -> None:
    assert [name for name in named_files(page) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not ((ROOT / page).parent / link).exists()] == []


def test_files_are_really_looked_for() -> None:
    assert {"scansearch/directions/curves.py", "tests/directions/test_conformance.py"} <= set(
        named_files("CONTRIBUTING.md")
    )
    assert "scansearch/data/sources.py" in named_files("docs/architecture.md")


def variables_read(path: Path) -> Iterator[str]:
    """Names looked up in the environment; a name held by a constant of the same file is followed."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        key: ast.expr | None = None
        if isinstance(node, ast.Call) and node.args:
            called = ast.unparse(node.func).removeprefix("os.")
            key = node.args[0] if called in ("environ.get", "getenv", "environ.pop") else None
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            key = node.slice if ast.unparse(node.value) in ("os.environ", "environ") else None
        if isinstance(key, ast.Constant):
            yield str(key.value)
        elif isinstance(key, ast.Name) and key.id in constants:
            yield str(constants[key.id])


def table_of_variables() -> dict[str, str]:
    """Variable -> by whom it is read, as CONTRIBUTING.md says."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Environment variables")[1]
    return dict(re.findall(r"^\| `(\w+)` \| .* \| ([^|]+) \|$", text, re.MULTILINE))


def test_the_table_of_variables_and_the_code_agree() -> None:
    readers = defaultdict(set)
    for folder in ("scansearch", "kernels/scansearch_kernels", "tests", "experiments"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for name in set(variables_read(path)) - SYSTEM:
                readers[name].add(folder)
    ours = {name: readers for name, readers in table_of_variables().items() if "`" in readers}
    # a test that looks at a variable of the code is no reader of its own
    in_code = {name: folders - {"tests"} or folders for name, folders in readers.items()}
    assert {name: set(re.findall(r"`(.+?)`", text)) for name, text in ours.items()} == in_code


def test_variables_that_libraries_read_are_used_here() -> None:
    theirs = [name for name, readers in table_of_variables().items() if "`" not in readers]
    assert theirs
    sources = [
        path for folder in ("scansearch", "kernels", "tests") for path in (ROOT / folder).rglob("*.py")
    ]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources if path != Path(__file__).resolve())
    assert [name for name in theirs if name not in text] == []
