"""Times of scan and merge at the published sizes beside floors measured in the same run, and of variants."""

import argparse
import time
from typing import Any

import torch
from common import DEVICE, DRY, Log, left
from scansearch_kernels.bench import device as bench
from scansearch_kernels.bench.published_sizes import PUBLISHED_SIZES, LayerSize
from scansearch_kernels.bench.rates import rates
from scansearch_kernels.bench.timing import milliseconds
from scansearch_kernels.calls import check_scan
from scansearch_kernels.gpu.launch import run_all
from scansearch_kernels.gpu.plan import Tuning, plan_backward, plan_forward

ORDER = [
    "localvim_tiny", "localvmamba stage 1", "localvmamba stage 3", "localvmamba stage 2", "localvmamba stage 4",
    "localvim_tiny_search", "vim_tiny", "localvim_small",
]  # fmt: skip
FORWARD = {
    "168 registers, groups of 4": Tuning(forward_registers=168),
    "168 registers, groups of 2": Tuning(forward_registers=168, group=2),
    "144 registers, groups of 4": Tuning(forward_registers=144),
    "255 registers, groups of 4": Tuning(forward_registers=255),
}
BACKWARD = {
    "255 registers": Tuning(backward_registers=255),
    "168 registers": Tuning(backward_registers=168),
    "255 registers, B and C ahead": Tuning(backward_registers=255, ahead=True, again=4),
    "255 registers, B and C in place": Tuning(backward_registers=255, ahead=False, again=4),
    "255 registers, B and C in place, groups of 2": Tuning(backward_registers=255, ahead=False, again=2),
    "255 registers, two states at a time": Tuning(backward_registers=255, unroll=2),
}


def variants(size: LayerSize, batch: int, dtype: torch.dtype) -> dict[str, float]:
    """Milliseconds of the scan's own launches under other tunings."""
    arguments, _ = bench.arguments_of(size, batch, dtype, DEVICE, "w7")
    repeats, warmup = (1, 0) if DRY else (10, 2)
    found = {}
    with torch.no_grad():
        call = check_scan(**(bench.ABSENT | arguments))
        for name, tuning in FORWARD.items():
            launches, y, saved = plan_forward(call, True, tuning)
            found[f"forward, {name}"] = milliseconds(
                lambda launches=launches: run_all(launches), DEVICE, repeats, warmup
            )
        assert saved is not None
        dy = torch.randn_like(y)
        for name, tuning in BACKWARD.items():
            launches, _, _ = plan_backward(call, saved, dy, tuning)
            scan = next(launch for launch in launches if launch.kernel.__name__ == "scan_backward")
            found[f"backward, {name}"] = milliseconds(scan.run, DEVICE, repeats, warmup)
    return found


def main() -> None:
    """Sizes in the order of how much they say; those that do not fit the time are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", action="store_true", help="other tunings of the first sizes too")
    options = parser.parse_args()
    sizes = {size.name: size for size in PUBLISHED_SIZES}
    chosen = [sizes[name] for name in ORDER]
    settings: dict[str, Any] = {"batch": 128, "dtype": torch.bfloat16, "repeats": 10}
    if DRY:
        chosen = [LayerSize("dry", 2, 16, 16, 16, 3, True, states=4, merges=((True, True),))]
        settings = {"batch": 1, "dtype": torch.float32, "repeats": 1, "quick": True}
    log = Log("timing", rates=rates(DEVICE, quick=DRY))
    for index, size in enumerate(chosen):
        if left() < 8:
            log.add(what="out of time", left_out=[entry.name for entry in chosen[index:]])
            break
        began = time.monotonic()
        found = bench.bench(DEVICE, sizes=[size], opponents=() if index > 1 else bench.OPPONENTS, **settings)
        log.add(**found["sizes"][0], took_s=time.monotonic() - began)
        if options.variants and left() > 8:
            try:
                log.add(size=size.name, **variants(size, settings["batch"], settings["dtype"]))
            except Exception as error:
                log.failed(error, size=size.name, what="variants")


if __name__ == "__main__":
    main()
