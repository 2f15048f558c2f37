"""Large results lie on huge pages where the system lets a program ask for them, and are ordinary tensors."""

import sys
from pathlib import Path

import pytest
import torch
from scansearch_kernels.cpu import memory as cpu_memory


def flags_at(address: int) -> list[str]:
    """What the kernel notes about the mapping that holds an address (see proc(5), VmFlags)."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = line.split()[0]
        if "-" in head and not head.endswith(":"):
            start, end = (int(part, 16) for part in head.split("-"))
            inside = start <= address < end
        elif inside and head == "VmFlags:":
            return line.split()[1:]
    raise AssertionError(f"no mapping at {address:#x}")


@pytest.mark.skipif(sys.platform != "linux", reason="huge pages are asked for on Linux only")
def test_large_tensors_ask_for_huge_pages() -> None:
    if not Path("/sys/kernel/mm/transparent_hugepage/enabled").exists():
        pytest.skip("this kernel has no transparent huge pages")
    large = cpu_memory.empty(64, 2**18, dtype=torch.float32)  # 64 MiB, so it has a mapping of its own
    assert "hg" in flags_at(large.data_ptr() + large.nbytes // 2)


@pytest.mark.parametrize("shape", [(0,), (), (3, 0, 5), (7, 11), (3, 1024, 1024)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_shape_is_an_ordinary_tensor(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    room = cpu_memory.empty(*shape, dtype=dtype)
    assert room.shape == shape
    assert room.dtype == dtype
    assert room.is_contiguous()
    room.fill_(3)
    assert bool((room == 3).all())


def test_a_system_without_advice_gives_plain_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_memory, "_advise", lambda: None)
    assert cpu_memory.empty(2, 2**20, dtype=torch.float32).shape == (2, 2**20)
