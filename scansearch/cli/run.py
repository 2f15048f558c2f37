"""``scansearch run``: the whole job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from scansearch.cli.options import (
    Augmentation,
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
    given_options,
    image_size,
    image_size_option,
    k_option,
    one_of,
    option,
    refuse_beside_resume,
    settings_option,
    task_option,
)
from scansearch.searching.strategies import STRATEGIES

if TYPE_CHECKING:
    from scansearch.runs.search_result import RunResult


Space = Annotated[str, option(help="Search space: a name from `scansearch spaces`, or a YAML file")]
Directions = Annotated[int, k_option()]
Data = Annotated[str, data_option()]
Epochs = Annotated[int | None, epochs_option(15)]
ImageSize = Annotated[str | None, image_size_option("that of the variant")]
StrategyName = Annotated[str, option("--strategy", help=one_of(STRATEGIES))]
Task = Annotated[str, task_option()]
Verify = Annotated[
    int,
    option(
        help="After the search, train so many of its best genotypes briefly, and a random one; keep the best"
    ),
]
Settings = Annotated[
    list[str] | None, settings_option("weights.lr=0.005, the learning rate as it is by default")
]


def run(
    context: typer.Context,
    space: Space = "vim8",
    task: Task = "classify",
    k: Directions = 4,
    variant: Variant = None,
    data: Data = "digits",
    size: ImageSize = None,
    channels: Channels = None,
    augment: Augmentation = None,
    recipe: Recipe = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    seed: Seed = None,
    out: RunOut = None,
    device: Device = "auto",
    strategy: StrategyName = "localmamba",
    verify: Verify = 0,
    track: Track = None,
    settings: Settings = None,
    resume: Resume = None,
    quiet: Quiet = False,
) -> None:
    """Search a space, derive the best k directions per layer, and write a run folder.

    With the defaults this trains a small supernet on scikit-learn's digits, on a laptop without a GPU.
    """
    if resume is not None:
        refuse_beside_resume(context)

    from scansearch.data.augment import expand_preset
    from scansearch.files.strict import apply_settings, parse_yaml, read_text
    from scansearch.runs.progress import RunView
    from scansearch.runs.search_run import resume_search, run_search
    from scansearch.searching.config import search_config

    with RunView(quiet=quiet) as view:
        if resume is not None:
            result = resume_search(resume, observe=view)
        else:
            options: dict[str, Any] = {
                "space": space,
                "task": task,
                "k": k,
                "variant": variant,
                "data": data,
                "image_size": image_size(size),
                "channels": channels,
                "augment": augment,
                "epochs": epochs,
                "batch_size": batch_size,
                "seed": seed or 0,
                "device": device,
                "track": track,
                "strategy": strategy,
                "verify": verify,
            }
            if recipe is not None:
                given = {"image_size" if name == "size" else name for name in given_options(context)}
                named = {name: value for name, value in options.items() if name in given}
                options = parse_yaml(read_text(recipe), source=str(recipe)) | named
            config = search_config(**apply_settings(expand_preset(options), settings or []))
            result = run_search(config, out=out, observe=view)
    print_result(result)


def print_result(result: RunResult) -> None:
    """The table of layers and directions, the figures, and what to type next, on standard output."""
    from scansearch.cli.screen import print_lines, print_table
    from scansearch.runs.overview import search_next
    from scansearch.runs.rank import is_main_process
    from scansearch.runs.search_result import genotype_line, unverified, verdict

    if not is_main_process():
        return
    rows = []
    for layer, names in enumerate(result.genotype.layers):
        scores = dict(result.preferences.ranked(layer))
        rows.append((str(layer), " ".join(names), " ".join(f"{scores[name]:.3f}" for name in names)))
    print_table(("layer", "directions", "preference"), rows, left=3)
    lines = [
        "",
        f"supernet: {result.test_accuracy:.2f} % test {result.score_title}, {result.validation_accuracy:.2f} % on "
        "validation",
    ]
    if result.baseline is not None:
        name, accuracy = result.baseline
        lines.append(f"baseline to beat: {accuracy:.2f} % ({name})")
    if result.verified:
        lines.append(verdict(result.verified))
    elif result.task == "classify":
        lines.append(unverified(result.preferences.provenance.data or "DATA"))
    lines += [
        genotype_line(result),
        f"written to {result.run.folder}: genotype.yaml, preferences.json, summary.md, report.html, plots/",
        "",
        "next:",
        *(f"  {command}" for command in search_next(result.run.folder, result.genotype, result.task)),
    ]
    print_lines(lines)
