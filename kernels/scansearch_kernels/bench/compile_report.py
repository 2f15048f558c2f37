"""Compiles the GPU kernels without a GPU and says what each variant costs: registers, spills, shared memory.

Run as `python -m scansearch_kernels.bench --compile-only [--arch 90] [--json]`. The variants are those that training
and inference of the published models launch, in large batches and for one image.
"""

import argparse
import json
import re
import subprocess
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

from scansearch_kernels.bench.published_sizes import PUBLISHED_SIZES, LayerSize
from scansearch_kernels.gpu import conv as gpu_conv
from scansearch_kernels.gpu import merge as gpu_merge
from scansearch_kernels.gpu import plan as gpu_plan
from scansearch_kernels.gpu.launch import Launch

POINTERS = {
    torch.float64: "*fp64",
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int32: "*i32",
}


@dataclass(frozen=True)
class Compiled:
    """What one variant of a kernel needs on one architecture; sizes in bytes, registers per thread."""

    kernel: str
    variant: dict[str, Any]
    arch: int
    registers: int
    spill_stores: int
    spill_loads: int
    stack: int
    shared: int
    seconds: float = field(compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def signature(launch: Launch) -> tuple[dict[str, str], dict[str, Any], dict[tuple[int, ...], Any]]:
    """Types, constants and known alignments of the parameters, as a run with these tensors would have them."""
    types: dict[str, str] = {}
    constants = dict(launch.constants)
    attributes: dict[tuple[int, ...], Any] = {}
    for index, parameter in enumerate(launch.kernel.params):
        name = parameter.name
        if name in constants:
            types[name] = "constexpr"
            continue
        value = launch.arguments[name]
        aligned = isinstance(value, Tensor) or value % 16 == 0
        if isinstance(value, Tensor):
            types[name] = POINTERS[value.dtype]
        else:
            types[name] = "i32" if -(2**31) <= value < 2**31 else "i64"
        if parameter.do_not_specialize:
            continue
        if not isinstance(value, Tensor) and value == 1:
            types[name], constants[name] = "constexpr", 1
        elif aligned:
            attributes[(index,)] = [["tt.divisibility", 16]]
    return types, constants, attributes


def variants(launches: Iterable[Launch]) -> list[Launch]:
    """Launches without those that share another's compiled kernel."""
    unique: dict[str, Launch] = {}
    for launch in launches:
        if launch.programs > 0:
            key = f"{launch.kernel.__name__} {signature(launch)} {launch.options}"
            unique.setdefault(key, launch)
    return list(unique.values())


def build(launch: Launch, arch: int = 90) -> Any:
    """Triton's compiled kernel for sm_`arch`, whose `asm` has every stage; needs no GPU. Not inside the interpreter."""
    source = ASTSource(launch.kernel, *signature(launch))
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=launch.options)


def compile_variant(launch: Launch, arch: int = 90) -> Compiled:
    """Compile for sm_`arch` and ask ptxas; needs no GPU. Not inside Triton's interpreter.

    Raises RuntimeError if ptxas reports no resources.
    """
    began = time.perf_counter()
    types, constants, _ = signature(launch)
    compiled = build(launch, arch)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        path.write_text(compiled.asm["ptx"])
        target = re.search(r"^\.target (sm_\w+)", compiled.asm["ptx"], re.MULTILINE)
        command = [get_ptxas(arch).path, "-v", f"--gpu-name={target.group(1)}" if target else "", str(path)]
        done = subprocess.run([*command, "-o", "/dev/null"], capture_output=True, text=True, check=True)
    log = done.stderr + done.stdout

    def read(pattern: str) -> int:
        match = re.search(pattern, log)
        if match is None:
            raise RuntimeError(f"ptxas reported nothing like '{pattern}': {log}")
        return int(match.group(1))

    shown = {
        name: str(value).removeprefix("triton.language.")
        if not isinstance(value, int | bool | str)
        else value
        for name, value in constants.items()
    }
    shown |= {name: kind for name, kind in types.items() if kind.startswith("*")}
    if launch.registers is not None:
        shown["maxnreg"] = launch.registers
    return Compiled(
        kernel=launch.kernel.__name__,
        variant=shown,
        arch=arch,
        registers=read(r"Used (\d+) registers"),
        spill_stores=read(r"(\d+) bytes spill stores"),
        spill_loads=read(r"(\d+) bytes spill loads"),
        stack=read(r"(\d+) bytes stack frame"),
        shared=int(compiled.metadata.shared),
        seconds=time.perf_counter() - began,
    )


def launches_of(size: LayerSize, batch: int, dtype: torch.dtype, train: bool) -> list[Launch]:
    """Every launch of a layer: forward, and with `train` forward that saves states, and backward."""
    call = size.scan_call(batch, dtype)
    launches, y, saved = gpu_plan.plan_forward(call, train)
    if saved is not None:
        launches += gpu_plan.plan_backward(call, saved, y)[0]
    conv = size.conv_call(batch, dtype)
    if conv is not None:
        forward, y = gpu_conv.plan_forward(conv)
        launches += forward + (gpu_conv.plan_backward(conv, y)[0] if train else [])
    for channel, gates in size.merges:
        launches += merge_launches(*size.merge_tensors(channel, gates, batch, dtype), train)
    return launches


def merge_launches(y: Tensor, channel: Tensor | None, gates: Tensor | None, train: bool) -> list[Launch]:
    """Every launch of a merge; channel factors come from the means of the branches."""
    launches = []
    if channel is not None:
        launches.append(gpu_merge.plan_means_forward(y)[0])
        launches += [gpu_merge.plan_means_backward(y, channel)[0]] if train else []
    forward, out = gpu_merge.plan_sum_forward(y, channel, gates)
    launches.append(forward)
    if train and not (channel is None and gates is None):  # whose gradient is a view
        launches.append(gpu_merge.plan_sum_backward(y, channel, gates, out)[0])
    return launches


def published_variants(
    batches: Iterable[int] = (128, 1),
    dtypes: Iterable[torch.dtype] = (torch.bfloat16, torch.float32),
    train: Iterable[bool] = (True, False),
) -> list[Launch]:
    """Every kernel variant that the published models launch; activations in `dtypes`, float32 parameters."""
    modes = list(train)
    sizes = [(batch, dtype) for dtype in dtypes for batch in batches]
    return variants(
        launch
        for size in PUBLISHED_SIZES
        for batch, dtype in sizes
        for mode in modes
        for launch in launches_of(size, batch, dtype, mode)
    )


def report(arch: int = 90) -> dict[str, Any]:
    """Compile all published variants: {"arch", "triton", "ptxas", "count", "kernels": [one dict each]}."""
    entries = [compile_variant(launch, arch) for launch in published_variants()]
    return {
        "arch": arch,
        "triton": triton.__version__,
        "ptxas": get_ptxas(arch).version,
        "count": len(entries),
        "kernels": [entry.to_dict() for entry in entries],
    }


def table(compiled: dict[str, Any]) -> str:
    """The report as lines of text, one per variant."""
    lines = [f"{'kernel':24}{'registers':>10}{'spills':>8}{'shared':>8}  variant"]
    for entry in compiled["kernels"]:
        switches = [name for name, value in entry["variant"].items() if value is True]
        types = sorted({kind for kind in entry["variant"].values() if str(kind).startswith("*")})
        lines.append(
            f"{entry['kernel']:24}{entry['registers']:10}{entry['spill_stores'] + entry['spill_loads']:8}"
            f"{entry['shared']:8}  {' '.join(switches + types)}"
        )
    return "\n".join([*lines, f"{compiled['count']} variants for sm_{compiled['arch']}"])


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--arch", type=int, default=90, help="compute capability times ten (90: H100, H200)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    compiled = report(options.arch)
    print(json.dumps(compiled, indent=1) if options.json else table(compiled))
