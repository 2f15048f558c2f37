"""``scansearch costs``: what each direction costs in each layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from scansearch.models.backbone import ScanBackbone
    from scansearch.records.costs import Costs

Subject = Annotated[
    str, typer.Argument(help="Registered model, genotype file, or search space.", metavar="MODEL")
]
ImageSize = Annotated[
    int | None, typer.Option("--img-size", help="Side in pixels; default: the model's own.")
]
Classes = Annotated[int, typer.Option("--num-classes", help="Size of the classifier.")]
Variant = Annotated[str | None, typer.Option(help="Variant of a search space.")]
Latency = Annotated[bool, typer.Option("--latency", help="Measure it on this device too.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Batch = Annotated[int, typer.Option(help="Images at a time when measuring.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Measure again what was measured here before.")]
Out = Annotated[Path | None, typer.Option(help="Write the table as JSON.")]


def costs(
    subject: Subject,
    img_size: ImageSize = None,
    num_classes: Classes = 1000,
    variant: Variant = None,
    latency: Latency = False,
    device: Device = "cpu",
    batch: Batch = 1,
    fresh: Fresh = False,
    out: Out = None,
) -> None:
    """Show FLOPs and parameters (and latency) of every direction in every layer.

    Of a search space, those of all its candidates.
    """
    from scansearch.costing.flops import model_costs
    from scansearch.costing.latency import LatencyCache, default_cache, measure_costs

    model, side, space, name = _build(subject, img_size, num_classes, variant, real=latency)
    if latency:
        cache = LatencyCache(default_cache())
        before = dict(cache.figures)
        if fresh:
            cache.figures.clear()
        found = measure_costs(
            model, side, side, device=device, batch=batch, cache=cache, space=space, variant=name
        )
        cache.figures = before | cache.figures
        cache.save()
    else:
        found = model_costs(model, side, side, space=space, variant=name)
    if out is not None:
        found.save(out)
    _show(found, model, side, chosen=space is None)


def _build(
    subject: str, img_size: int | None, num_classes: int, variant: str | None, *, real: bool
) -> tuple[ScanBackbone, int, str | None, str | None]:
    """The model with all candidates, its image side, and the space and variant where it is one's."""
    import torch

    from scansearch.errors import InputError
    from scansearch.models.build import build_model
    from scansearch.models.published import PUBLISHED
    from scansearch.records.genotype import Genotype
    from scansearch.records.space import load_space, space_names

    space = name = None
    if subject in PUBLISHED:
        published = PUBLISHED[subject]
        family, layers, arguments = published.family, published.layers, dict(published.arguments)
        arguments["weighted"] = False
    elif subject in space_names():
        found = load_space(subject)
        space, name = found.name, variant or found.default_variant
        family, layers = found.family, found.layer_candidates(name)
        arguments = found.model_arguments(name, "derived")
    elif Path(subject).is_file():
        genotype = Genotype.load(Path(subject))
        family, layers, arguments = genotype.family, genotype.layers, dict(genotype.model)
    else:
        names = ", ".join([*space_names(), *PUBLISHED])
        raise InputError(f"{subject!r} is no genotype file, space or model (there are: {names})")
    if variant is not None and space is None:
        raise InputError("--variant belongs to a search space")
    side = int(img_size or arguments.get("img_size", 224))
    if side < 1:
        raise InputError(f"--img-size must be at least 1, not {side}")
    with torch.device("cpu" if real else "meta"):
        model = build_model(family, layers, **(arguments | {"img_size": side, "num_classes": num_classes}))
    return model, side, space, name


def _show(costs: Costs, model: ScanBackbone, side: int, *, chosen: bool) -> None:
    from rich.table import Table

    from scansearch.cli.screen import wide_console
    from scansearch.costing.flops import released_flops
    from scansearch.text import human

    console = wide_console()
    columns = list(dict.fromkeys(name for names in costs.candidates for name in names))
    for measure, figures in costs.tables().items():
        unit = "ms" if measure == "latency_ms" else ""
        table = Table("layer", *columns, title=measure, title_justify="left", box=None, pad_edge=False)
        for column in table.columns:
            column.justify = "right"
        for layer, (names, row) in enumerate(zip(costs.candidates, figures.table, strict=True)):
            cells = dict(zip(names, row, strict=True))
            shown = [_figure(cells[name], unit) if name in cells else "" for name in columns]
            table.add_row(str(layer), *shown)
        console.print(table)
        console.print(f"fixed {_figure(figures.fixed, unit)}", highlight=False)
        if chosen:
            total = costs.of(costs.candidates)[measure]
            console.print(f"total {_figure(total, unit)}", highlight=False)
        if measure == "latency_ms" and costs.latency_noise_ms is not None:
            worst = max(max(row) for row in costs.latency_noise_ms)
            console.print(
                f"measured on {costs.device}; largest deviation of a figure {worst:.3f} ms", highlight=False
            )
        console.print()
    console.print(f"{side}x{side} pixels; {costs.convention}.", soft_wrap=True, highlight=False)
    if chosen:
        released = human(released_flops(model, side, side))
        console.print(f"As the released code counts: {released} FLOPs.", soft_wrap=True, highlight=False)


def _figure(value: float, unit: str) -> str:
    from scansearch.text import human

    return f"{value:.3f} ms" if unit == "ms" else human(value)
