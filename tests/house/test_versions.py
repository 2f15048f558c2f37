"""Versions: every module imports, and the locks say what pyproject.toml promises."""

from __future__ import annotations

import importlib
import pkgutil
import re
import tomllib
from pathlib import Path

import pytest
import scansearch_kernels

import scansearch

ROOT = Path(__file__).parents[2]
LOCKS = ["run", "dev", "oldest"]
PINNED = re.compile(r"^([a-z0-9-]+)==([^ ;]+)", re.MULTILINE)
RANGE = re.compile(r"^([A-Za-z0-9_-]+)>=([0-9.]+)")


def lock(name: str) -> dict[str, set[str]]:
    """The versions of each package in one lock."""
    versions: dict[str, set[str]] = {}
    for package, version in PINNED.findall((ROOT / "locks" / f"{name}.txt").read_text(encoding="utf-8")):
        versions.setdefault(package, set()).add(version)
    return versions


def release(version: str) -> list[int]:
    """1.2.0 and 1.2 are one release."""
    numbers = [int(number) for number in version.split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return numbers


def promises() -> list[tuple[str, str]]:
    """Package and lowest version of each dependency that test-oldest installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [
        *project["dependencies"],
        *(line for extra in ("dense", "hf", "onnx", "test") for line in extras[extra]),
    ]
    return [match.groups() for line in lines if (match := RANGE.match(line))]  # type: ignore[misc]


@pytest.mark.smoke
@pytest.mark.parametrize("package", [scansearch, scansearch_kernels], ids=lambda package: package.__name__)
def test_every_module_imports(package) -> None:
    names = [module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    assert len(names) > 20
    for name in names:
        if not name.endswith("__main__") and ".templates." not in name:
            importlib.import_module(name)


@pytest.mark.parametrize(("package", "lowest"), promises(), ids=lambda value: value)
def test_the_oldest_lock_has_the_lowest_version_that_is_promised(package: str, lowest: str) -> None:
    # A newer Python may need a newer version, which the lock then holds beside the lowest.
    assert min(release(version) for version in lock("oldest")[package.lower()]) == release(lowest)


def test_both_locks_agree() -> None:
    dev = lock("dev")
    assert {package: dev.get(package) for package in lock("run")} == lock("run")


def test_the_locks_hold_the_chosen_torch() -> None:
    chosen = dict(PINNED.findall((ROOT / "locks/held.txt").read_text(encoding="utf-8")))
    assert chosen, "held.txt names no version"
    for package, version in chosen.items():
        assert lock("run")[package] == {version}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_hashes_and_names_no_address(name: str) -> None:
    text = (ROOT / "locks" / f"{name}.txt").read_text(encoding="utf-8")
    assert "://" not in text
    blocks = re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]
    assert len(blocks) > 40
    assert all("--hash=sha256:" in block for block in blocks)
