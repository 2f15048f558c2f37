"""The command line: parse, call the API, show. Command modules import heavy packages only when they run."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from scansearch.cli import bench, convert, costs, derive, info, show, timm_script
from scansearch.cli import compare as compare_command
from scansearch.cli import doctor as doctor_command
from scansearch.cli import evaluate as evaluate_command
from scansearch.cli import evolve as evolve_command
from scansearch.cli import export as export_command
from scansearch.cli import plot as plot_command
from scansearch.cli import predict as predict_command
from scansearch.cli import probe as probe_command
from scansearch.cli import published as published_command
from scansearch.cli import rank as rank_command
from scansearch.cli import run as run_command
from scansearch.cli import train as train_command
from scansearch.cli.examples import example
from scansearch.errors import InputError, RunStopped
from scansearch.runs.rank import is_main_process
from scansearch.text import printable


def _version(asked: bool) -> None:
    if asked:
        info.version()
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
]

# Typer may use its own copy of click, so the class is taken from what it exports.
_UsageError: Any = typer.BadParameter.__base__

app = typer.Typer(
    name="scansearch",
    help="Search the scan directions of vision state-space models.",
    epilog="Start with: scansearch run --space vim8 --k 4",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def every_command(version: Version = False) -> None:
    """Search the scan directions of vision state-space models."""


app.command("run", epilog=example("run"))(run_command.run)
app.command("derive", epilog=example("derive"))(derive.derive_command)
app.command("train", epilog=example("train"))(train_command.train)
app.command("evaluate", epilog=example("evaluate"))(evaluate_command.evaluate)
app.command("predict", epilog=example("predict"))(predict_command.predict)
app.command("show", epilog=example("show"))(show.show)
app.command("list", epilog=example("list"))(show.list_runs)
app.command("compare", epilog=example("compare"))(compare_command.compare)
app.command("evolve", epilog=example("evolve"))(evolve_command.evolve)
app.command("rank", epilog=example("rank"))(rank_command.rank)
app.command("probe", epilog=example("probe"))(probe_command.probe)
app.command("export", epilog=example("export"))(export_command.export)
app.command("costs", epilog=example("costs"))(costs.costs)
app.command("plot", epilog=example("plot"))(plot_command.plot)
app.command("published", epilog=example("published"))(published_command.published)
app.command("convert", epilog=example("convert"))(convert.convert)
app.command("timm", epilog=example("timm"), context_settings=timm_script.SETTINGS)(timm_script.timm_script)
app.add_typer(bench.app, name="bench")
app.command("spaces", epilog=example("spaces"))(info.spaces)
app.command("directions", epilog=example("directions"))(info.directions)
app.command("doctor", epilog=example("doctor"))(doctor_command.doctor)
app.command("version", epilog=example("version"))(info.version)


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit.

    Exit codes: 0 done; 2 the input cannot be used (one line says why); 1 a run had to stop; 130 and 143
    interrupted by SIGINT and SIGTERM, with everything saved.
    """
    try:
        code = app(arguments, standalone_mode=False)
        if code == 130:  # how typer tells of a KeyboardInterrupt
            code = _fail("interrupted", code)
    except typer.Abort:
        code = _fail("interrupted", 130)
    except _UsageError as error:
        # Without any command the help has been shown, and there is no message.
        message = error.format_message().rstrip(".")
        code = _fail(message, 2) if message.strip() else 2
    except InputError as error:
        code = _fail(str(error), 2)
    except RunStopped as error:
        number = getattr(error, "signal", None)
        code = _fail(str(error), 128 + number if number is not None else 1)
    except KeyboardInterrupt:
        code = _fail("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has left
        code = 1
    sys.exit(code)


def _fail(message: str, code: int) -> int:
    # Under torchrun every process meets the same unusable input and the same signal: the first one tells.
    if code == 1 or is_main_process():
        print("error: " + printable(" ".join(message.split())), file=sys.stderr)
    return code
