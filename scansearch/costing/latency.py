"""Measured latency of each direction in each layer, with its noise."""

from __future__ import annotations

import copy
import json
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from scansearch.costing.flops import MixerSite, mixer_sites, model_costs
from scansearch.engine.devices import device_name
from scansearch.errors import InputError, RunStopped
from scansearch.models.backbone import ScanBackbone
from scansearch.models.mixers import DirectionalSSM, LocalVimMixer, LocalVMambaMixer
from scansearch.records.costs import Costs, CostTable

WARM_UP = 3
CLEAR = 0.25  # largest noise, as a share of the figure, with which a figure is kept


class LatencyCache:
    """Figures measured before, by device and by everything that a layer's latency depends on.

    Args:
        path: JSON file that keeps them between processes; None keeps them in memory. A file that cannot be read is
            taken as empty, and one that cannot be written is not: measuring again is all that it costs.
        fresh: measure again what the file knows, and replace it there.

    Attributes:
        figures: what is not measured again: milliseconds an image and their noise.
    """

    def __init__(self, path: Path | None = None, *, fresh: bool = False) -> None:
        self.path = path
        self._stored = _read_figures(path) if path is not None else {}
        self.figures = {} if fresh else dict(self._stored)

    def save(self) -> None:
        """Write the figures that stand out of their noise, atomically; the others are better measured again."""
        from scansearch.files.atomic import write_text

        if self.path is not None:
            figures = self._stored | self.figures
            clear = {key: pair for key, pair in figures.items() if pair[1] <= CLEAR * pair[0]}
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_text(self.path, json.dumps(clear, indent=1, sort_keys=True) + "\n")
            except (OSError, RunStopped):
                pass


def _read_figures(path: Path) -> dict[str, tuple[float, float]]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        pairs = {key: (float(figure), float(noise)) for key, (figure, noise) in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
    return {key: pair for key, pair in pairs.items() if min(pair) >= 0 and all(map(math.isfinite, pair))}


def default_cache() -> Path:
    """Where the command line keeps measured figures: below the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "scansearch" / "latency.json"


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
    site: MixerSite, branch: int, device: torch.device, batch: int, repeats: int, cache: LatencyCache
) -> tuple[float, float]:
    """Median extra milliseconds of running a branch twice rather than once, and that median's deviation."""
    mixer = site.mixer
    if isinstance(mixer, LocalVimMixer):
        taps = mixer.conv_weight.shape[-1]
    else:
        assert isinstance(mixer, LocalVMambaMixer)
        taps = mixer.conv2d.kernel_size[0]
    parts = (
        device_name(device), f"torch {torch.__version__}", os.environ.get("SCANSEARCH_BACKEND", "default backend"),
        type(mixer).__name__, mixer.directions[branch], mixer.window_padding, f"{site.height}x{site.width}",
        f"class token {site.extra}", f"model dim {mixer.in_proj.in_features}", f"dim {mixer.dim}",
        f"states {mixer.states}", f"rank {mixer.dt_rank}", f"taps {taps}",
        f"attention {mixer.merge.attention_kind}", f"batch {batch}", f"repeats {repeats}",
    )  # fmt: skip
    key = "; ".join(parts)
    if key in cache.figures:
        return cache.figures[key]
    once, twice = (with_directions(mixer, (branch,) * count).to(device).eval() for count in (1, 2))
    model_dim = mixer.in_proj.weight.shape[1]
    if isinstance(mixer, LocalVimMixer):
        x = torch.randn(batch, site.tokens, model_dim, device=device)
        calls = [lambda m=m: m(x, site.height, site.width) for m in (once, twice)]
    else:
        x = torch.randn(batch, site.height, site.width, model_dim, device=device)
        calls = [lambda m=m: m(x) for m in (once, twice)]
    seconds = _stopwatch(device)
    for call in calls * WARM_UP:
        call()
    # The two are timed in turn, so that drift of the machine cancels in the difference.
    differences = [1e3 * (-seconds(calls[0]) + seconds(calls[1])) / batch for _ in range(repeats)]
    median = statistics.median(differences)
    spread = 1.4826 * statistics.median(abs(value - median) for value in differences)
    cache.figures[key] = max(median, 0.0), 1.2533 * spread / repeats**0.5
    return cache.figures[key]


@torch.inference_mode()
def measure_costs(
    model: ScanBackbone,
    height: int,
    width: int,
    *,
    device: str | torch.device = "cpu",
    batch: int = 1,
    repeats: int = 21,
    cache: LatencyCache | None = None,
    space: str | None = None,
    variant: str | None = None,
) -> Costs:
    """``model_costs`` with the latency of inference on ``device``, in milliseconds an image.

    A direction's figure is the median difference between its layer with that branch twice and once; layers of
    equal shape are measured once, and not again where ``cache`` knows them. The fixed part is what a model with
    one direction in every layer takes beyond those.

    Args:
        model: as in ``model_costs``, with real weights; it is not changed.
        batch: images at a time.
        repeats: timed runs of each, after a warm-up.
        cache: figures measured before, to which new ones are added.

    Raises:
        InputError: a device that is not there, fewer than 3 repeats, or a batch below 1.
    """
    device = torch.device(device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda' was asked for, but there is no CUDA device here")
    if repeats < 3 or batch < 1:
        raise InputError(f"repeats {repeats} must be at least 3 and batch {batch} at least 1")
    costs = model_costs(model, height, width, space=space, variant=variant)
    cache = cache if cache is not None else LatencyCache()
    cells = [
        [
            _branch_ms(site, branch, device, batch, repeats, cache)
            for branch in range(len(site.mixer.directions))
        ]
        for site in mixer_sites(model, height, width)
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
