"""Shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from support.tiny import TINY_SPACE

from scansearch.directions import parse_direction, registry
from scansearch.files.strict import validate
from scansearch.records.space import SearchSpace

# Small operations on two threads lose more than they gain, most of all where tests run side by side. The
# variable is for the processes that tests start: a result is bit-identical for one number of threads only.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small models on busy cores are fastest on one thread; a test that wants more says so."""
    torch.set_num_threads(1)


@pytest.fixture
def tiny_space() -> SearchSpace:
    """Four candidates, two layers, grids of 4x4."""
    return validate(TINY_SPACE, SearchSpace, source="tiny space")


@pytest.fixture
def tiny_space_file(tmp_path) -> str:
    """The same as a file, for the command line."""
    from scansearch.files.strict import dump_yaml

    path = tmp_path / "tiny-test.yaml"
    path.write_text(dump_yaml(TINY_SPACE))
    return str(path)


@pytest.fixture
def clean_registry() -> Iterator[None]:
    """Registering is for the whole process: put the registry back afterwards."""
    before = dict(registry._FAMILIES)
    yield
    registry._FAMILIES.clear()
    registry._FAMILIES.update(before)
    registry._cached_order.cache_clear()
    parse_direction.cache_clear()
