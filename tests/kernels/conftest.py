"""Shared by the kernels' tests."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def poisoned_memory(request: pytest.FixtureRequest) -> Iterator[None]:
    """Memory that a kernel should have written but did not is NaN; not on a GPU, where the setting changes kernels."""
    torch.manual_seed(
        1234
    )  # not a seed that cases are drawn with: what comes back to a result is independent of it
    if request.node.get_closest_marker("gpu") is None:
        torch.use_deterministic_algorithms(True, warn_only=True)  # fills torch.empty with NaN
    yield
    torch.use_deterministic_algorithms(False)
