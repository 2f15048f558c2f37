"""``scansearch run``: the whole job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from scansearch.runs.search_result import RunResult


Space = Annotated[str, typer.Option(help="Search space: a name from `scansearch spaces`, or a YAML file.")]
Directions = Annotated[int, typer.Option("--k", help="Directions per layer.")]
Variant = Annotated[str | None, typer.Option(help="Size of the models; default: the space's own.")]
Data = Annotated[
    str, typer.Option(help="digits, folder:PATH, timm:NAME, fake:HxW:classes or translated-digits.")
]
Recipe = Annotated[
    Path | None,
    typer.Option("--config", help="A recipe, for example one of experiments/; other options override it."),
]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training images.")]
BatchSize = Annotated[int | None, typer.Option(help="Images per step.")]
Seed = Annotated[int, typer.Option(help="Seed of weights, order and augmentation.")]
Out = Annotated[Path | None, typer.Option(help="Run folder; default: a new one below runs/.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
StrategyName = Annotated[
    str, typer.Option("--strategy", help="localmamba, darts, darts2, gdas, topk, spos or fair.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any field of the configuration, for example alphas.lr=0.01; repeatable."),
]
Resume = Annotated[
    Path | None, typer.Option(help="Continue the run in this folder; other options are then not allowed.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show the result only.")]


def run(
    context: typer.Context,
    space: Space = "vim8",
    k: Directions = 4,
    variant: Variant = None,
    data: Data = "digits",
    recipe: Recipe = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    seed: Seed = 0,
    out: Out = None,
    device: Device = "auto",
    strategy: StrategyName = "localmamba",
    settings: Settings = None,
    resume: Resume = None,
    quiet: Quiet = False,
) -> None:
    """Search a space, derive the best k directions per layer, and write a run folder.

    With the defaults this trains a small supernet on scikit-learn's digits, on a laptop without a GPU.
    """
    given = [
        name
        for name in context.params
        if name not in ("resume", "quiet") and str(context.get_parameter_source(name)).endswith("COMMANDLINE")
    ]
    if resume is not None and given:
        name = {"recipe": "config", "settings": "set"}.get(given[0], given[0].replace("_", "-"))
        raise typer.BadParameter(f"--resume takes everything from the run; leave out --{name}")

    from scansearch.cli.progress import RunView
    from scansearch.files.strict import apply_settings, parse_yaml, read_text
    from scansearch.runs.search_run import resume_search, run_search
    from scansearch.searching.config import search_config

    with RunView(quiet=quiet) as view:
        if resume is not None:
            result = resume_search(resume, observe=view)
        else:
            options: dict[str, Any] = {
                "space": space,
                "k": k,
                "variant": variant,
                "data": data,
                "epochs": epochs,
                "batch_size": batch_size,
                "seed": seed,
                "device": device,
                "strategy": strategy,
            }
            if recipe is not None:
                named = {name: options[name] for name in given if name in options}
                options = parse_yaml(read_text(recipe), source=str(recipe)) | named
            config = search_config(**apply_settings(options, settings or []))
            result = run_search(config, out=out, observe=view)
    print_result(result)


def print_result(result: RunResult) -> None:
    """The table of layers and directions, the figures, and what to type next, on standard output."""
    from rich.table import Table

    from scansearch.cli.screen import is_main_process, wide_console
    from scansearch.runs.search_result import genotype_line, next_commands

    if not is_main_process():
        return
    console = wide_console()
    table = Table("layer", "directions", "preference", box=None, pad_edge=False)
    for layer, names in enumerate(result.genotype.layers):
        scores = dict(result.preferences.ranked(layer))
        table.add_row(str(layer), " ".join(names), " ".join(f"{scores[name]:.3f}" for name in names))
    console.print(table, highlight=False)
    lines = [
        "",
        f"supernet: {result.test_accuracy:.2f} % test accuracy, {result.validation_accuracy:.2f} % on validation",
    ]
    if result.baseline is not None:
        name, accuracy = result.baseline
        lines.append(f"bar to clear: {accuracy:.2f} % ({name})")
    lines += [
        genotype_line(result),
        f"written to {result.run.folder}: genotype.yaml, preferences.json, summary.md, plots/",
        "",
        "next:",
        *(f"  {command}" for command in next_commands(result)),
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
