"""Threads and processes: the same numbers from any number of threads, from any thread, in any kind of child."""

import multiprocessing
import threading
from collections.abc import Iterator

import pytest
import torch
from scansearch_kernels import selective_scan
from scansearch_kernels.cpu import threads
from support.scan_cases import ScanCase, gradients, put_beginnings, put_beginnings_of_a_forked_child
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

CASE = ScanCase(
    batch=6, directions=3, rows=64, dim=96, states=8, read="order", shared_u=True, dtype=torch.float32
)


def results() -> list[Tensor]:
    y, leaves = gradients(*CASE.arguments(), "cpu")
    return [y, *leaves]


@pytest.fixture
def thread_count() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def same(ours: list[Tensor], expected: list[Tensor]) -> bool:
    return all(torch.equal(left, right) for left, right in zip(ours, expected, strict=True))


@pytest.mark.usefixtures("thread_count")
def test_the_number_of_threads_changes_no_bit() -> None:
    torch.set_num_threads(1)
    expected = results()
    for count in (2, 3, 8):
        torch.set_num_threads(count)
        assert same(results(), expected)


@pytest.mark.usefixtures("thread_count")
def test_torchs_thread_count_is_followed() -> None:
    torch.set_num_threads(3)
    assert threads.threads_for(100, 10**9) == 3
    assert threads.threads_for(2, 10**9) == 2
    assert threads.threads_for(100, 1000) == 1
    torch.set_num_threads(1)
    assert threads.threads_for(100, 10**9) == 1


@pytest.mark.usefixtures("thread_count")
def test_the_pool_of_python_threads_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(3)
    expected = results()
    monkeypatch.setattr(threads, "_openmp", lambda: None)
    assert not threads.openmp_in_use()
    assert same(results(), expected)


@pytest.mark.usefixtures("thread_count")
def test_several_python_threads_may_call_at_once() -> None:
    torch.set_num_threads(2)
    expected, found = results(), []

    def work() -> None:
        for _ in range(5):
            found.append(same(results(), expected))

    callers = [threading.Thread(target=work) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert found == [True] * 20


def _answer(child: multiprocessing.Process, queue: "multiprocessing.Queue[list]") -> list:
    child.start()
    found = queue.get(timeout=120)
    child.join(timeout=60)
    assert child.exitcode == 0
    return found


def test_a_forked_child_computes_the_same() -> None:
    # Forked from a fresh process: torch refuses backward in a child of one whose autograd has threads of its own.
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=put_beginnings_of_a_forked_child, args=(CASE, queue))
    assert _answer(child, queue) == [tensor.flatten()[:50].tolist() for tensor in results()]


def test_a_spawned_child_computes_the_same() -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=put_beginnings, args=(CASE, queue))
    assert _answer(child, queue) == [tensor.flatten()[:50].tolist() for tensor in results()]


class Scanned(Dataset):
    """A data set whose items come out of the kernel."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        arguments, _ = ScanCase(**{**vars(CASE), "seed": index}).arguments()
        return selective_scan(**arguments)


def test_data_loader_workers_may_call_kernels() -> None:
    data = Scanned()
    expected = [data[index] for index in range(4)]
    batches = list(DataLoader(data, batch_size=1, num_workers=2, multiprocessing_context="fork", timeout=120))
    for batch, right in zip(batches, expected, strict=True):
        assert torch.equal(batch[0], right)


def test_a_busy_team_is_not_waited_for() -> None:
    expected = results()
    with threads._team:
        assert same(results(), expected)
