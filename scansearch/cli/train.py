"""``scansearch train``: a derived model from scratch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str | None,
    typer.Argument(help="A genotype file, a run folder that holds one, or a model such as localvim_tiny."),
]
Data = Annotated[
    str | None,
    typer.Option(
        help="digits, folder:PATH, timm:NAME, fake:HxW:classes or translated-digits; default: that of the search."
    ),
]
Recipe = Annotated[
    Path | None,
    typer.Option("--config", help="A recipe, for example one of experiments/; other options override it."),
]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training images.")]
BatchSize = Annotated[int | None, typer.Option(help="Images per step.")]
Seed = Annotated[int | None, typer.Option(help="Seed of weights, order and augmentation.")]
Out = Annotated[Path | None, typer.Option(help="Run folder; default: a new one below runs/.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any field of the configuration, for example optimizer.lr=0.01; repeatable."),
]
Resume = Annotated[
    Path | None, typer.Option(help="Continue the run in this folder; other options are then not allowed.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show the result only.")]


def train(
    context: typer.Context,
    model: Model = None,
    data: Data = None,
    recipe: Recipe = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    seed: Seed = None,
    out: Out = None,
    device: Device = None,
    settings: Settings = None,
    resume: Resume = None,
    quiet: Quiet = False,
) -> None:
    """Train a derived (or registered) model from scratch, and keep the weights that validate best.

    With the defaults, `scansearch train runs/NAME` trains what that search found, on the same images.
    """
    given = [
        name
        for name in context.params
        if name not in ("resume", "quiet") and str(context.get_parameter_source(name)).endswith("COMMANDLINE")
    ]
    if resume is not None and given:
        shown = {"model": "the model", "recipe": "--config", "settings": "--set"}
        name = shown.get(given[0], f"--{given[0].replace('_', '-')}")
        raise typer.BadParameter(f"--resume takes everything from the run; leave out {name}")

    if model is None and recipe is None and resume is None:
        raise typer.BadParameter("name what to train: a genotype file, a run folder or a registered model")

    from scansearch.cli.progress import RunView
    from scansearch.cli.screen import is_main_process
    from scansearch.runs.train_run import resume_training, run_training
    from scansearch.training.config import train_config

    with RunView(quiet=quiet) as view:
        if resume is not None:
            result = resume_training(resume, observe=view)
        else:
            config = train_config(
                recipe,
                settings,
                model=model,
                data=data,
                epochs=epochs,
                batch_size=batch_size,
                seed=seed,
                device=device,
            )
            result = run_training(config, out=out, observe=view)
    if is_main_process():
        _print(result)


def _print(result: object) -> None:
    from scansearch.cli.screen import wide_console
    from scansearch.runs.train_result import TrainResult, next_commands, training_lines

    assert isinstance(result, TrainResult)
    console = wide_console()
    lines = [
        *training_lines(result),
        f"written to {result.run.folder}: best.safetensors, result.json, summary.md, plots/",
        "",
        "next:",
        *(f"  {command}" for command in next_commands(result)),
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
