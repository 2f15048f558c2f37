"""``scansearch costs``: what each direction costs in each layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scansearch.cli.options import (
    AsJson,
    Classes,
    ImageSize,
    Latency,
    MeasureOn,
    Variant,
    image_size,
    option,
)

if TYPE_CHECKING:
    from scansearch.costing.subject import CostSubject
    from scansearch.records.costs import CostRow, Costs

Subject = Annotated[
    str,
    typer.Argument(
        help="Search space, genotype file, run folder, weight file, or published model.", metavar="MODEL"
    ),
]
Batch = Annotated[int, option(help="Images at a time when measuring")]
Fresh = Annotated[bool, option("--fresh", help="Measure again what was measured here before")]
Out = Annotated[Path | None, option(help="Write the table as JSON")]


def costs(
    subject: Subject,
    size: ImageSize = None,
    num_classes: Classes = None,
    variant: Variant = None,
    latency: Latency = False,
    device: MeasureOn = "cpu",
    batch_size: Batch = 1,
    fresh: Fresh = False,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Show FLOPs and parameters (and latency) of every direction in every layer.

    Of a search space, those of all its candidates. Of a model for masks or objects, with its decoder.
    """
    from scansearch.cli.screen import print_json
    from scansearch.costing.latency import LatencyCache, default_cache, measure_costs
    from scansearch.costing.subject import cost_subject
    from scansearch.files.outputs import check_file, make_folder

    check_file(out)
    chosen = cost_subject(
        subject, image_size=image_size(size), num_classes=num_classes, variant=variant, weightless=not latency
    )
    if latency:
        height, width = chosen.image_size
        cache = LatencyCache(default_cache(), fresh=fresh)
        table = measure_costs(
            chosen.model,
            height,
            width,
            device=device,
            batch=batch_size,
            cache=cache,
            space=chosen.space,
            variant=chosen.variant,
        )
        cache.save()
    else:
        table = chosen.costs()
    if out is not None:
        make_folder(out.parent)
        table.save(out)
    if as_json:
        print_json(table.rows())
    else:
        _show(table, chosen)


def _show(costs: Costs, subject: CostSubject) -> None:
    from scansearch.cli.screen import print_lines, print_table
    from scansearch.text import human, span

    columns = list(dict.fromkeys(name for names in costs.candidates for name in names))
    fixed, *rows = costs.rows()
    cells = {(row.layer, row.direction): row for row in rows}
    complete = subject.space is None  # every direction of a genotype is chosen, so there is a total
    for measure in costs.measures:
        print_table(
            ("layers", *columns),
            [
                (
                    span(layers),
                    *(_figure(cells.get((layers[0], name)), measure) for name in columns),
                )
                for layers in costs.equal_layers()
            ],
            title=measure,
        )
        lines = [f"fixed {_figure(fixed, measure)}"]
        if complete:
            total = costs.of(costs.candidates)[measure]
            lines.append(f"total {f'{total:.3f} ms' if measure == 'latency_ms' else human(total)}")
        if measure == "latency_ms":
            worst = max(row.latency_noise_ms or 0.0 for row in rows)
            lines.append(f"measured on {costs.device}; largest deviation of a figure {worst:.3f} ms")
            if any(row.is_noise for row in rows):
                lines.append(
                    "figures after < are no larger than twice their deviation: measure several images at once "
                    "(--batch-size 8) on a quiet machine"
                )
        print_lines([*lines, ""])
    height, width = subject.image_size
    lines = [f"{height}x{width} pixels; {costs.convention}."]
    if complete:
        lines.append(f"As the released code counts: {human(subject.released_flops())} FLOPs.")
    print_lines([*lines, *subject.repeated_scans()])


def _figure(row: CostRow | None, measure: str) -> str:
    from scansearch.text import human

    if row is None:
        return ""
    return row.latency if measure == "latency_ms" else human(getattr(row, measure))
