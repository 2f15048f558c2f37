"""Small models on two busy cores are fastest, and reproducible, on one thread."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(20240314)
    yield
    torch.set_num_threads(threads)
