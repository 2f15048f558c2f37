"""YAML and JSON files with random damage: read, or refused in one line; never a traceback, never endless."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.commands import call

from scansearch.files.strict import dump_yaml, parse_yaml

ODD: tuple[Any, ...] = (
    None, True, -1, 0, 10**9, 10**30, 0.5, 1e308, float("nan"), float("inf"), "", "8", "../../..", "\x1b[2J",
    "!!python/name:os.system", [], [[]], {}, {"a": {}}, ["h"], [["h", "h"]], "x" * 3000,
)  # fmt: skip
TORN = (
    "",
    "\x00",
    "{",
    "[",
    "]",
    ":",
    "- ",
    "&a ",
    "*a ",
    "!!python/object/apply:os.system ['touch MARK'] ",
    "\n\t",
)

# File below the folder of `finished`, and the commands that read it.
YAML = {
    "search/genotype.yaml": (
        ["costs", "{copy}/search/genotype.yaml"],
        ["export", "{copy}/search/genotype.yaml", "--format", "yaml", "--out", "{copy}/out.yaml"],
    ),
    "tiny-test.yaml": (["costs", "{copy}/tiny-test.yaml"],),
    "search/config.yaml": (["compare", "{copy}/search"], ["derive", "{copy}/search", "--k", "2"]),
    "training/config.yaml": (["compare", "{copy}/training"],),
    "search/space.yaml": (["derive", "{copy}/search", "--k", "2"],),
}
JSON = {
    "search/preferences.json": (["derive", "{copy}/search", "--k", "2"],),
    "search/costs.json": (["derive", "{copy}/search", "--k", "2", "--max-flops", "1e9"],),
    "search/result.json": (["compare", "{copy}/search"],),
    "training/result.json": (["compare", "{copy}/training", "{copy}/search"],),
    "hub/config.json": (["evaluate", "{copy}/hub", "--data", "fake:8x8:10"],),
}


def changed_value(data: Any, rng: random.Random) -> Any:
    """``data`` with one of its values replaced, dropped, or put under another key."""
    places: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            places.append((node, key))
            collect(value)

    data = copy.deepcopy(data)
    collect(data)
    node, key = rng.choice(places)
    kind = rng.random()
    if kind < 0.7:
        node[key] = copy.deepcopy(rng.choice(ODD))
    elif kind < 0.85:
        del node[key]
    elif isinstance(node, dict):
        node[rng.choice(["", "a b", "\x1b", "x" * 50])] = node.pop(key)
    else:
        node.append(copy.deepcopy(node[key]))
    return data


def torn(text: str, rng: random.Random) -> str:
    """``text`` with a piece cut out, doubled or replaced."""
    start = rng.randrange(len(text))
    end = min(len(text), start + rng.choice([1, 1, 3, 40]))
    return text[:start] + rng.choice([*TORN, text[start:end] * 2]) + text[end:]


def damaged(text: str, dump: Callable[[Any], str], load: Callable[[str], Any], rng: random.Random) -> str:
    if rng.random() < 0.4:
        return torn(text, rng)
    data = changed_value(load(text), rng)
    data.pop("hash", None)  # else a genotype is refused for that alone
    return dump(data)


def check_fuzzed(
    files: dict[str, tuple[list[str], ...]],
    dump: Callable[[Any], str],
    load: Callable[[str], Any],
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    count: int,
) -> None:
    rng = random.Random(count)
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    for number in range(count):
        name = list(files)[number % len(files)]
        path = folder / name
        whole = path.read_text()
        path.write_text(damaged(whole, dump, load, rng))
        for command in files[name]:
            code, _, error = call(capsys, *[part.format(copy=folder) for part in command])
            assert code in (0, 1, 2), (name, path.read_text())
            lines = [line for line in error.splitlines() if line.startswith("error: ")]
            assert len(lines) == (code != 0), (name, error, path.read_text())
            assert "\x1b" not in error
        path.write_text(whole)
    assert not list(tmp_path.rglob("MARK"))


def as_yaml(text: str) -> Any:
    return parse_yaml(text, source="file")


def test_fuzzed_yaml_gives_one_line(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_fuzzed(YAML, dump_yaml, as_yaml, finished, tmp_path, capsys, 150)


def test_fuzzed_json_gives_one_line(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_fuzzed(JSON, json.dumps, json.loads, finished, tmp_path, capsys, 100)


@pytest.mark.long
def test_two_thousand_fuzzed_yaml_files(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_fuzzed(YAML, dump_yaml, as_yaml, finished, tmp_path, capsys, 2000)


@pytest.mark.long
def test_nine_hundred_fuzzed_json_files(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_fuzzed(JSON, json.dumps, json.loads, finished, tmp_path, capsys, 900)
