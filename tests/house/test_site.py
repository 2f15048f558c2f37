"""The documentation: what its pages show works, and nothing is left out. `make docs` builds it and checks the links."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest
from support.shown_commands import shown_commands, understand, unknown_options

import scansearch
from scansearch.files.strict import parse_yaml, validate
from scansearch.records.space import SearchSpace

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))
BESIDE = ("search_spaces/README.md", "experiments/README.md", "kernels/README.md", "kernels/GPU.md")
# What a page shows and no test can run as it stands, with what covers it or what it wants.
FOREIGN = {
    "python3 -m venv .venv": "an environment of its own: .ci/run",
    "pip install -e .": "an environment of its own: .ci/run",
    "pip install -e '.[dense]'": "the locks hold the extra",
}


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PROGRAMS = ("scansearch", "torchrun", "python", "python3", "pip", "pytest", "make")


def shown() -> list[tuple[str, str]]:
    """Page and command."""
    every = [(page, command) for page in (*PAGES, *BESIDE) for command in shown_commands(text(page))]
    return [(page, command) for page, command in every if command.split()[0] in PROGRAMS]


@pytest.mark.parametrize(("page", "command"), shown(), ids=lambda value: value.replace("/", " "))
def test_a_shown_command_is_understood(page: str, command: str) -> None:
    """Command, arguments, options and files exist; nothing runs. README's are run, see test_readme.py."""
    words = shlex.split(command)
    if words[0] == "torchrun":
        words = words[words.index("-m") + 1 :]
    files = [word for word in words if word.startswith(("experiments/", "tests/"))]
    assert [name for name in files if not (ROOT / name).exists()] == []
    if words[0] == "scansearch":
        line = shlex.join(words)
        assert unknown_options(line) == []
        if f"`{command}`" not in text(page):  # a part of a line may stand in a sentence
            understand(line)
    elif words[0] in ("pip", "python3"):
        assert command in FOREIGN, "say in FOREIGN what covers it"
    elif words[0] == "make":
        assert f"\n{words[1]}:" in text("Makefile")


def test_commands_are_looked_for_where_they_stand() -> None:
    commands = {command for _, command in shown()}
    assert "scansearch run --space my.yaml --k 2" in commands
    assert any(command.startswith("torchrun ") for command in commands)


@pytest.mark.usefixtures("clean_registry")
def test_the_python_of_the_page_on_own_things_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = text("docs/own.md")
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "own.md", "exec"), names)
    assert names["data"].classes == ("left", "right")
    assert scansearch.parse_direction("columnpairs_flip").order(2, 3).tolist() == [5, 2, 4, 3, 1, 0]
    (space,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert validate(parse_yaml(space, source="own.md"), SearchSpace, source="own.md").name == "mine"


def test_every_public_name_is_on_the_page_of_names() -> None:
    named = re.findall(r"^::: scansearch\.(\S+)$", text("docs/api.md"), re.MULTILINE)
    assert {f"{home}.{name}" for name, home in scansearch._HOMES.items()} <= set(named)
    from scansearch import plots

    assert set(plots.__all__) <= {name.split(".")[-1] for name in named if name.startswith("plots.")}


def test_the_page_of_commands_has_every_command_and_option(hooks: ModuleType) -> None:
    page = hooks.commands_page()
    parts = dict(re.findall(r"^## scansearch ([^\n]+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    for name, command in hooks.commands():
        for parameter in command.params:
            for flag in parameter.opts:
                assert not flag.startswith("--") or f"`{flag}`" in parts[name], (name, flag)
        assert f"    scansearch {name}" in parts[name]
    assert "`--track` | text" in parts["train"]
    assert "| `--quiet` |  |" in parts["train"]


def test_every_page_is_in_the_navigation_and_there(hooks: ModuleType) -> None:
    configuration = text("mkdocs.yml")
    listed = set(re.findall(r"^ +- (?:[^:\n]+: )?(\S+\.md)$", configuration, re.MULTILINE))
    there = set(PAGES) | {hooks.COMMANDS} | {path.relative_to(ROOT).as_posix() for path in hooks.beside()}
    assert listed <= there
    assert set(PAGES) <= listed
    assert "font: false" in configuration  # else it would be fetched by whoever reads the page
