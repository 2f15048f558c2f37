"""``scansearch train``: a derived model from scratch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from scansearch.cli.options import (
    Augmentation,
    Balance,
    BatchSize,
    Channels,
    Device,
    Quiet,
    Recipe,
    Resume,
    RunOut,
    Seed,
    Track,
    Variant,
    data_option,
    epochs_option,
    image_size,
    image_size_option,
    k_option,
    option,
    refuse_beside_resume,
    settings_option,
    task_option,
)

if TYPE_CHECKING:
    from scansearch.records.genotype import Genotype
    from scansearch.runs.train_result import TrainResult

Model = Annotated[
    str | None,
    typer.Argument(
        help="A genotype file, a run folder that holds one, a published model such as localvim_tiny, or a baseline: "
        "timm:NAME, or with --space random:SEED, uniform:h,v_flip or uniform:vmamba4."
    ),
]
K = Annotated[int | None, k_option("needed by random:SEED")]
Data = Annotated[str | None, data_option("that of the search")]
Epochs = Annotated[int | None, epochs_option(25)]
ImageSize = Annotated[str | None, image_size_option("that of the search, or the model's own")]
Weights = Annotated[
    str | None,
    option("--weights", help="Start from this weight file or training's run", default="fresh weights"),
]
Task = Annotated[str | None, task_option("classify")]
Space = Annotated[str | None, option("--space", help="Search space of a baseline, by name or file")]
Settings = Annotated[
    list[str] | None, settings_option("optimizer.lr=0.01, the learning rate as it is by default")
]


def train(
    context: typer.Context,
    model: Model = None,
    task: Task = None,
    data: Data = None,
    size: ImageSize = None,
    channels: Channels = None,
    augment: Augmentation = None,
    balance: Balance = None,
    weights: Weights = None,
    space: Space = None,
    variant: Variant = None,
    k: K = None,
    recipe: Recipe = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    seed: Seed = None,
    out: RunOut = None,
    device: Device = None,
    track: Track = None,
    settings: Settings = None,
    resume: Resume = None,
    quiet: Quiet = False,
) -> None:
    """Train a derived (or published) model from scratch or from given weights, and keep the weights that validate best.

    With the defaults, `scansearch train runs/NAME` trains what that search found, on the same images.
    """
    if resume is not None:
        refuse_beside_resume(context)
    if model is None and recipe is None and resume is None:
        raise typer.BadParameter("name what to train: a genotype file, a run folder or a published model")

    genotype = _baseline(model, space, variant, k)

    from scansearch.runs.progress import RunView
    from scansearch.runs.rank import is_main_process
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
                task=task,
                data=data,
                image_size=image_size(size),
                channels=channels,
                augment=augment,
                balance=balance,
                weights=weights,
                epochs=epochs,
                batch_size=batch_size,
                seed=seed,
                device=device,
                track=track,
            )
            result = run_training(config, genotype, out=out, observe=view)
    if is_main_process():
        _print(result)


def _baseline(model: str | None, space: str | None, variant: str | None, k: int | None) -> Genotype | None:
    """The genotype that a baseline's name stands for; None of every other model."""
    from scansearch.errors import InputError
    from scansearch.records.baselines import FORMS, baseline_genotype, is_baseline

    if model is None or not is_baseline(model):
        given = {"--space": space, "--variant": variant, "--k": k}
        for name, value in given.items():
            if value is not None:
                raise InputError(f"{name} belongs to a baseline ({FORMS}), and {model!r} is none")
        return None
    if space is None:
        raise InputError(
            f"{model!r} needs --space, which gives the sizes of the model, for example --space vim8"
        )
    return baseline_genotype(model, space, k=k, variant=variant)


def _print(result: TrainResult) -> None:
    from scansearch.cli.screen import print_lines
    from scansearch.records.genotype import Genotype
    from scansearch.runs.overview import training_next
    from scansearch.runs.train_result import training_lines

    exports = isinstance(result.genotype, Genotype)
    following = training_next(result.run.folder, result.config.task, exports=exports)
    print_lines(
        [
            *training_lines(result),
            f"written to {result.run.folder}: best.safetensors, result.json, summary.md, report.html, plots/",
            "",
            "next:",
            *(f"  {command}" for command in following),
        ]
    )
