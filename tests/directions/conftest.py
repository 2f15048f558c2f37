"""What the tests of directions share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scansearch.directions import parse_direction, registry


@pytest.fixture
def clean_registry() -> Iterator[None]:
    """Registering is for the whole process: put the registry back afterwards."""
    before = dict(registry._FAMILIES)
    yield
    registry._FAMILIES.clear()
    registry._FAMILIES.update(before)
    registry._cached_order.cache_clear()
    parse_direction.cache_clear()
