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
from scansearch.cli.commands import Command, Group
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
Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an unexpected error; anywhere on the line.")
]

# Typer may use its own copy of click, so the class is taken from what it exports.
_UsageError: Any = typer.BadParameter.__base__

app = typer.Typer(
    name="scansearch",
    cls=Group,
    help="Search the scan directions of vision state-space models.",
    epilog="Start with: scansearch run --space vim8 --k 4",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def every_command(version: Version = False, debug: Debug = False) -> None:
    """Search the scan directions of vision state-space models."""


app.command("run", cls=Command, epilog=example("run"))(run_command.run)
app.command("derive", cls=Command, epilog=example("derive"))(derive.derive_command)
app.command("train", cls=Command, epilog=example("train"))(train_command.train)
app.command("evaluate", cls=Command, epilog=example("evaluate"))(evaluate_command.evaluate)
app.command("predict", cls=Command, epilog=example("predict"))(predict_command.predict)
app.command("show", cls=Command, epilog=example("show"))(show.show)
app.command("list", cls=Command, epilog=example("list"))(show.list_runs)
app.command("compare", cls=Command, epilog=example("compare"))(compare_command.compare)
app.command("evolve", cls=Command, epilog=example("evolve"))(evolve_command.evolve)
app.command("rank", cls=Command, epilog=example("rank"))(rank_command.rank)
app.command("probe", cls=Command, epilog=example("probe"))(probe_command.probe)
app.command("export", cls=Command, epilog=example("export"))(export_command.export)
app.command("costs", cls=Command, epilog=example("costs"))(costs.costs)
app.command("plot", cls=Command, epilog=example("plot"))(plot_command.plot)
app.command("published", cls=Command, epilog=example("published"))(published_command.published)
app.command("convert", cls=Command, epilog=example("convert"))(convert.convert)
app.command("timm", cls=Command, epilog=example("timm"), context_settings=timm_script.SETTINGS)(
    timm_script.timm_script
)
app.add_typer(bench.app, name="bench")
app.command("spaces", cls=Command, epilog=example("spaces"))(info.spaces)
app.command("directions", cls=Command, epilog=example("directions"))(info.directions)
app.command("doctor", cls=Command, epilog=example("doctor"))(doctor_command.doctor)
app.command("version", cls=Command, epilog=example("version"))(info.version)


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit.

    Exit codes: 0 done; 2 the input cannot be used (one line says why); 1 a run had to stop; 130 and 143
    interrupted by SIGINT and SIGTERM, with everything saved. An error that nobody foresaw is one line and 1; with
    ``--debug`` it is its traceback.
    """
    arguments, debug = _without_debug(sys.argv[1:] if arguments is None else arguments)
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
    except Exception as error:
        if debug:
            raise
        told = " ".join(str(error).split())
        what = f"{type(error).__name__}: {told}" if told else type(error).__name__
        code = _fail(f"unexpected {what} (the same command with --debug shows where)", 1)
    sys.exit(code)


def _without_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """``arguments`` without ``--debug``, and whether it stood there; what a timm script gets is left to it."""
    end = next((index for index, word in enumerate(arguments) if word in ("--", "timm")), len(arguments))
    ours, rest = arguments[:end], arguments[end:]
    return [word for word in ours if word != "--debug"] + rest, "--debug" in ours


def _fail(message: str, code: int) -> int:
    # Under torchrun every process meets the same unusable input and the same signal: the first one tells.
    if code == 1 or is_main_process():
        print("error: " + printable(" ".join(message.split())), file=sys.stderr)
    return code
