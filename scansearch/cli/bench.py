"""`scansearch bench`: what the kernels reach on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from scansearch.cli.commands import Command, Group
from scansearch.cli.examples import example
from scansearch.cli.options import AsJson, data_option, image_side
from scansearch.cli.screen import print_json, show_rows
from scansearch.errors import InputError

app = typer.Typer(
    name="bench",
    cls=Group,
    help="Measure this machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def bench() -> None:
    """Measure this machine."""


@app.command(cls=Command, epilog=example("bench kernels"))
def kernels(
    size: Annotated[
        list[str] | None, typer.Option(help="A size by its name; may be repeated. All by default.")
    ] = None,
    as_json: AsJson = False,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; the best counts.")] = 20,
    baselines: Annotated[bool, typer.Option(help="Time the slow ones to compare with, too.")] = True,
    device: Annotated[
        str, typer.Option(help="cpu, or cuda for the GPU kernels at the published sizes.")
    ] = "cpu",
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time, on cuda.")] = 128,
) -> None:
    """Time the kernels against the floor of this machine, after checking that they are right."""
    if device != "cpu":
        _device_kernels(size, device, batch_size, repeats, baselines, as_json)
        return
    from scansearch_kernels.bench import cpu as measure

    try:
        rows = measure.kernels(
            size, repeats=repeats, baselines=baselines, progress=lambda line: typer.echo(line, err=True)
        )
    except ValueError as error:
        raise InputError(str(error)) from error
    if as_json:
        print_json(rows)
    else:
        typer.echo(measure.table(rows))
    if any(row.refused for row in rows):
        raise typer.Exit(1)


@app.command(cls=Command, epilog=example("bench models"))
def models(
    model: Annotated[
        list[str] | None, typer.Option(help="A timm name; may be repeated. The published ones by default.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cuda or cpu; cuda by default, where there is one.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images at a time; 128 on cuda and 8 on a CPU by default.")
    ] = None,
    size: Annotated[str, typer.Option("--image-size", help="Side of the images in pixels.")] = "224",
    dtype: Annotated[
        str | None,
        typer.Option(
            help="bfloat16, float16 or float32, by autocast; on a CPU float32 by default, else bfloat16."
        ),
    ] = None,
    backend: Annotated[str | None, typer.Option(help="Of scan and convolution: cuda, mamba_ssm, ...")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed runs; the median counts.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Images per second and peak memory of whole models, in inference and training; on a CPU in turns."""
    import torch

    from scansearch.bench.models import BESIDE, ON_A_CPU, PUBLISHED, bench_models

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    slow = device == "cpu"
    rows = bench_models(
        model or (ON_A_CPU if slow else [*PUBLISHED, *BESIDE]),
        device=device,
        batch=batch_size or (8 if slow else 128),
        image_size=image_side(size),
        dtype=dtype or ("float32" if slow else "bfloat16"),
        backend=backend,
        repeats=repeats,
        progress=lambda line: None if as_json else typer.echo(line),
    )
    if as_json:
        print_json(rows)


@app.command(cls=Command, epilog=example("bench search"))
def search(
    space: Annotated[str, typer.Option(help="A space by its name, or its file.")] = "vim8",
    data: Annotated[str, data_option()] = "digits",
    k: Annotated[int, typer.Option(min=1, help="Branches that sampled relaxations compute per layer.")] = 4,
    relaxation: Annotated[
        list[str] | None, typer.Option(help="By its name; may be repeated. All by default.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a step.")] = 32,
    rounds: Annotated[int, typer.Option(min=1, help="The best counts.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Time a training step of the supernet under each relaxation, beside softmax over all candidates."""
    from scansearch.bench.search_steps import HEADINGS, bench_search, cells
    from scansearch.searching.strategies import RELAXATIONS

    rows = bench_search(
        space,
        data=data,
        k=k,
        relaxations=relaxation or tuple(RELAXATIONS),
        batch_size=batch_size,
        rounds=rounds,
        progress=lambda line: typer.echo(line, err=True),
    )
    show_rows(rows, HEADINGS, cells, as_json=as_json)


@app.command(cls=Command, epilog=example("bench standalone"))
def standalone(
    size: Annotated[
        list[str] | None,
        typer.Option(help="A size of the kernel benchmark; may be repeated. Default: vim_k4, vmamba1."),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; the best counts.")] = 5,
    as_json: AsJson = False,
) -> None:
    """The plain-torch scan of `export --format standalone` beside the CPU kernel, after comparing their results."""
    from scansearch.bench.standalone import HEADINGS, bench_standalone, cells

    rows = bench_standalone(
        size or ("vim_k4", "vmamba1"),
        repeats=repeats,
        progress=lambda text: typer.echo(text, err=True),
    )
    show_rows(rows, HEADINGS, cells, as_json=as_json, left=2)
    if any(row.ratio is None for row in rows):
        raise typer.Exit(1)


def _device_kernels(
    size: list[str] | None, device: str, batch: int, repeats: int, baselines: bool, as_json: bool
) -> None:
    import torch

    if not device.startswith("cuda"):
        raise InputError(f"--device must be cpu or cuda, not {device!r}")
    if not torch.cuda.is_available():
        raise InputError("--device cuda: this machine has no usable CUDA device")
    from scansearch_kernels.bench import device as device_bench
    from scansearch_kernels.bench.published_sizes import PUBLISHED_SIZES

    sizes = {entry.name: entry for entry in PUBLISHED_SIZES}
    for name in size or ():
        if name not in sizes:
            raise InputError(f"size must be one of {', '.join(sizes)}, not {name!r}")
    report = device_bench.bench(
        device,
        batch,
        torch.bfloat16,
        [sizes[name] for name in size or sizes],
        repeats,
        opponents=device_bench.OPPONENTS if baselines else (),
        tell=lambda line: None if as_json else typer.echo(line),
    )
    if as_json:
        print_json([report])
    if not all(row["correct"] and row["merge_correct"] for row in report["sizes"]):
        raise typer.Exit(1)
