"""What works on this machine: versions, devices, kernels, extras."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal

import torch
from packaging.requirements import Requirement
from scansearch_kernels import backends, causal_conv, selective_scan
from torch import Tensor

State = Literal["works", "absent", "broken"]

# Of float32 results from those of the reference in float64, relative to the largest.
_TOLERANCE = 1e-4
_DISTRIBUTION = "scansearch"


@dataclass(frozen=True)
class CheckUp:
    """One thing that was looked at.

    Attributes:
        part: ``package``, ``device``, ``kernels`` or ``extra``.
        state: ``absent`` is no fault, ``broken`` is one.
        words: a version, a device's name, what was compared, or what to do.
    """

    part: str
    subject: str
    state: State
    words: str


def examine() -> Iterator[CheckUp]:
    """Everything, in the order in which it is shown; takes seconds where kernels are not compiled yet."""
    yield CheckUp("package", "Python", "works", platform.python_version())
    needed, extras = _requirements()
    for requirement in needed:
        yield _package(requirement)
    yield from _devices()
    for name in backends.MODULES:
        yield _kernels(name)
    for extra, requirements in extras.items():
        yield _extra(extra, requirements)


def _requirements() -> tuple[list[Requirement], dict[str, list[Requirement]]]:
    """What scansearch needs always, and what each extra adds; those of development are left out."""
    needed: list[Requirement] = []
    extras: dict[str, list[Requirement]] = {}
    try:
        texts = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:  # run from its sources without being installed
        texts = []
    for text in texts:
        requirement = Requirement(text)
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", text)
        if extra is None:
            if requirement.marker is None or requirement.marker.evaluate():
                needed.append(requirement)
        elif extra[1] not in ("dev", "test"):
            extras.setdefault(extra[1], []).append(requirement)
    return needed, extras


def _problem(requirement: Requirement) -> str | None:
    """Why an installed package does not do; ``not installed`` where there is none."""
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return "not installed"
    if not requirement.specifier.contains(version, prereleases=True):
        return f"{version} is installed, {requirement.specifier} is needed"
    return None


def _package(requirement: Requirement) -> CheckUp:
    problem = _problem(requirement)
    if problem is None:
        return CheckUp("package", requirement.name, "works", metadata.version(requirement.name))
    specification = f"{requirement.name}{requirement.specifier}"
    return CheckUp("package", requirement.name, "broken", f"{problem}: pip install '{specification}'")


def _extra(name: str, requirements: list[Requirement]) -> CheckUp:
    problems = {one.name: problem for one in requirements if (problem := _problem(one)) is not None}
    if not problems:
        return CheckUp("extra", name, "works", ", ".join(one.name for one in requirements))
    told = ", ".join(f"{package} ({problem})" for package, problem in problems.items())
    return CheckUp("extra", name, "absent", f"{told}: pip install 'scansearch[{name}]'")


def _devices() -> Iterator[CheckUp]:
    yield CheckUp(
        "device",
        "cpu",
        "works",
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads",
    )
    for index in range(torch.cuda.device_count()):
        whole = torch.cuda.get_device_properties(index)
        words = f"{whole.name}, {whole.total_memory / 2**30:.0f} GiB"
        yield CheckUp("device", f"cuda:{index}", "works", words)
    if not torch.cuda.device_count():
        yield CheckUp("device", "cuda", "absent", "torch finds no CUDA device")
    if torch.backends.mps.is_available():
        yield CheckUp("device", "mps", "works", "an Apple GPU, by the slow reference")


def _kernels(name: str) -> CheckUp:
    if name not in backends.available_backends():
        return CheckUp("kernels", name, "absent", _why_not(name))
    device = "cuda" if name in ("cuda", "mamba_ssm") and torch.cuda.is_available() else "cpu"
    try:
        difference = self_test(name, device)
    except Exception as error:  # whatever a broken installation raises is the finding
        reason = " ".join(str(error).split()) or type(error).__name__
        return CheckUp("kernels", name, "broken", f"the scan cannot run on {device}: {reason[:200]}")
    words = (
        f"scan and convolution on {device} differ from the reference by {difference:.0e}, gradients included"
    )
    if difference > _TOLERANCE:
        return CheckUp("kernels", name, "broken", f"wrong results: {words} (allowed: {_TOLERANCE:.0e})")
    return CheckUp("kernels", name, "works", words)


def _why_not(name: str) -> str:
    """What a backend says is missing."""
    try:
        backends.pick(name, "cpu")
    except (RuntimeError, ValueError) as error:
        return str(error)
    return "it cannot run here"


def self_test(backend: str, device: str) -> float:
    """The largest difference of ``backend`` in float32 from the reference in float64, relative to the largest value.

    Scan and convolution of two directions, one backwards, on a few tokens: outputs and the gradients of all inputs.
    """
    ours = _results(backend, device, torch.float32)
    right = _results("reference", "cpu", torch.float64)
    return max(
        float((mine.cpu().double() - other).abs().max() / other.abs().max().clamp_min(1e-12))
        for mine, other in zip(ours, right, strict=True)
    )


def _results(backend: str, device: str, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    batch, directions, rows, dim, states = 2, 2, 21, 16, 8

    def made(*shape: int) -> Tensor:
        values = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return values.to(device, dtype).requires_grad_()

    forward = torch.arange(rows, dtype=torch.int32)
    order = torch.stack([forward, forward.flip(0)]).to(device)
    x, weight, bias = made(batch, rows, dim), made(directions, dim, 4), made(directions, dim)
    convolved = causal_conv(x, weight, bias, read_order=order, backend=backend)
    u, delta = made(batch, 1, rows, dim), made(batch, directions, rows, dim)
    decay = made(directions, dim, states)
    b, c = made(batch, directions, rows, states), made(batch, directions, rows, states)
    options: dict[str, Any] = {
        "read_order": order,
        "write_order": order,
        "image_length": rows,
        "backend": backend,
    }
    scanned = selective_scan(u, delta, -decay.exp(), b, c, made(directions, dim), **options)
    total = (convolved * torch.linspace(-1, 1, dim, device=device, dtype=dtype)).sum()
    total = total + (scanned * torch.linspace(1, 2, dim, device=device, dtype=dtype)).sum()
    gradients = torch.autograd.grad(total, [x, weight, bias, u, delta, decay, b, c])
    return [convolved.detach(), scanned.detach(), *gradients]
