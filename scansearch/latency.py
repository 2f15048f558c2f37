"""Measured latency of each direction in each layer, with its noise."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from scansearch.costing import Place, model_costs, places
from scansearch.costs import Costs, CostTable
from scansearch.errors import InputError
from scansearch.models.backbone import ScanBackbone
from scansearch.models.mixers import DirectionalSSM, LocalVimMixer

WARM_UP = 3
_measured: dict[tuple[object, ...], tuple[float, float]] = {}


def device_name(device: torch.device) -> str:
    """The device in words, with the thread count on a CPU, because latency depends on it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({torch.get_num_threads()} threads)"


def with_directions(mixer: DirectionalSSM, branches: tuple[int, ...]) -> DirectionalSSM:
    """A copy of ``mixer`` that runs these of its branches; one may occur twice."""
    clone = copy.deepcopy(mixer)
    for name, parameter in mixer.named_parameters(recurse=False):
        setattr(clone, name, nn.Parameter(parameter.detach()[list(branches)]))
    clone.directions = tuple(mixer.directions[branch] for branch in branches)
    return clone


def _stopwatch(device: torch.device) -> Callable[[Callable[[], object]], float]:
    def seconds(call: Callable[[], object]) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    return seconds


def _branch_ms(
    place: Place, branch: int, device: torch.device, batch: int, repeats: int
) -> tuple[float, float]:
    """Median extra milliseconds of running a branch twice rather than once, and that median's deviation."""
    mixer = place.mixer
    key = (
        device_name(device), type(mixer), mixer.window_padding, mixer.directions[branch], place.height, place.width,
        mixer.in_proj.weight.shape, mixer.A_log.shape[1:], mixer.dt_rank, repr(mixer.merge.attention),
        place.extra, batch, repeats,
    )  # fmt: skip
    if key in _measured:
        return _measured[key]
    once, twice = (with_directions(mixer, (branch,) * count).to(device).eval() for count in (1, 2))
    model_dim = mixer.in_proj.weight.shape[1]
    if isinstance(mixer, LocalVimMixer):
        x = torch.randn(batch, place.tokens, model_dim, device=device)
        calls = [lambda m=m: m(x, place.height, place.width) for m in (once, twice)]
    else:
        x = torch.randn(batch, place.height, place.width, model_dim, device=device)
        calls = [lambda m=m: m(x) for m in (once, twice)]
    seconds = _stopwatch(device)
    for call in calls * WARM_UP:
        call()
    # The two are timed in turn, so that drift of the machine cancels in the difference.
    differences = [1e3 * (-seconds(calls[0]) + seconds(calls[1])) / batch for _ in range(repeats)]
    median = statistics.median(differences)
    spread = 1.4826 * statistics.median(abs(value - median) for value in differences)
    _measured[key] = max(median, 0.0), 1.2533 * spread / repeats**0.5
    return _measured[key]


@torch.inference_mode()
def measure_costs(
    model: ScanBackbone,
    height: int,
    width: int,
    *,
    device: str | torch.device = "cpu",
    batch: int = 1,
    repeats: int = 21,
    space: str | None = None,
    variant: str | None = None,
) -> Costs:
    """``model_costs`` with the latency of inference on ``device``, in milliseconds an image.

    A direction's figure is the median difference between its layer with that branch twice and once; layers of
    equal shape are measured once in a process. The fixed part is what a model with one direction in every layer
    takes beyond those.

    Args:
        model: as in ``model_costs``, with real weights; it is not changed.
        batch: images at a time.
        repeats: timed runs of each, after a warm-up.

    Raises:
        InputError: a device that is not there, fewer than 3 repeats, or a batch below 1.
    """
    device = torch.device(device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda' was asked for, but there is no CUDA device here")
    if repeats < 3 or batch < 1:
        raise InputError(f"repeats {repeats} must be at least 3 and batch {batch} at least 1")
    costs = model_costs(model, height, width, space=space, variant=variant)
    cells = [
        [_branch_ms(place, branch, device, batch, repeats) for branch in range(len(place.mixer.directions))]
        for place in places(model, height, width)
    ]
    table = tuple(tuple(figure for figure, _ in row) for row in cells)
    noise = tuple(tuple(deviation for _, deviation in row) for row in cells)
    single = copy.deepcopy(model).eval()
    for parent in list(single.modules()):
        for name, child in parent.named_children():
            if isinstance(child, DirectionalSSM):
                setattr(parent, name, with_directions(child, (0,)))
    single = single.to(device)
    image = torch.randn(batch, model.in_chans, height, width, device=device)
    seconds = _stopwatch(device)
    for _ in range(WARM_UP):
        single(image)
    whole = 1e3 * statistics.median(seconds(lambda: single(image)) for _ in range(repeats)) / batch
    latency = CostTable(fixed=max(whole - sum(row[0] for row in table), 0.0), table=table)
    return costs.model_copy(
        update={"device": device_name(device), "latency_ms": latency, "latency_noise_ms": noise}
    )
