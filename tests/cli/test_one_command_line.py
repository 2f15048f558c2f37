"""One command line: an option means and looks the same wherever it stands, and every command shows how it is used."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from support.commands import call
from typer.main import get_command

from scansearch.cli import app, main
from scansearch.cli.examples import EXAMPLES
from scansearch.searching.config import search_config
from scansearch.text import read_number
from scansearch.training.config import train_config

# Options whose words are each command's own: what is written, what is drawn from a seed, whose default holds.
OWN_WORDS = {
    "--batch-size", "--channels", "--data", "--device", "--epochs", "--image-size", "--k", "--model", "--out",
    "--repeats", "--set", "--size", "--space", "--steps", "--task", "--trainings", "--weights",
}  # fmt: skip


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its whole name."""
    for name, command in get_command(app).commands.items():
        inner = getattr(command, "commands", None)
        if inner is None:
            yield name, command
        else:
            yield from ((f"{name} {part}", one) for part, one in inner.items())


def uses() -> dict[str, dict[str, Any]]:
    """Option -> command -> its parameter."""
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, command in commands():
        for parameter in command.params:
            for flag in parameter.opts:
                if flag.startswith("--"):
                    found[flag][name] = parameter
    return found


def looks(parameter: Any) -> tuple[Any, ...]:
    """What stands for the value, whether it is a flag, and the type; that it may be repeated is told in its help."""
    return parameter.metavar, parameter.is_bool_flag, plain(parameter.type_descriptor.annotation)


def plain(annotation: Any) -> str:
    """``int`` for ``int | None``; paths and repeated texts are texts."""
    name = str(getattr(annotation, "__name__", annotation)).replace(" | None", "")
    return "str" if name in ("Path", "list") else name


def test_one_option_takes_the_same_everywhere() -> None:
    for flag, found in uses().items():
        assert len({looks(one) for one in found.values()}) == 1, (
            flag,
            {name: looks(one) for name, one in found.items()},
        )


def test_one_option_says_the_same_everywhere_but_where_its_words_are_the_commands_own() -> None:
    different = {
        flag for flag, found in uses().items() if len({(one.help, one.default) for one in found.values()}) > 1
    }
    assert different == OWN_WORDS


def test_no_two_names_for_one_thing() -> None:
    assert not {"--batch", "--img-size", "--in-chans", "--num_classes", "--lr"} & set(uses())
    assert all(flag == flag.lower() and "_" not in flag for flag in uses())


TABLES = {
    "bench kernels", "bench models", "bench search", "bench standalone", "compare", "costs", "derive", "directions",
    "doctor", "evaluate", "evolve", "list", "predict", "probe", "published", "rank", "show", "spaces",
}  # fmt: skip


def test_every_command_with_a_table_prints_it_as_json() -> None:
    assert set(uses()["--json"]) == TABLES


def test_defaults_that_help_tells_are_those_of_the_configuration() -> None:
    epochs, batch = uses()["--epochs"], uses()["--batch-size"]
    search, training = search_config(space="vim8"), train_config(model="localvim_tiny")
    for name, config in (("run", search), ("train", training)):
        assert epochs[name].help.endswith(f"default: {config.epochs}.")
        assert batch[name].help.endswith(f"default: {config.batch_size}.")
    assert f"weights.lr={search.weights.lr}" in uses()["--set"]["run"].help
    assert f"optimizer.lr={training.optimizer.lr}" in uses()["--set"]["train"].help


@pytest.mark.parametrize(
    ("name", "command"), list(commands()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_command_ends_its_help_with_an_example_that_is_understood(name: str, command: Any) -> None:
    text = EXAMPLES[name]
    assert command.epilog == f"Example: {text}"
    assert text.startswith(f"scansearch {name}")
    arguments = shlex.split(text)[1 + len(name.split()) :]
    command.make_context(name, arguments)


def test_there_is_no_example_of_a_command_that_there_is_not() -> None:
    assert set(EXAMPLES) == {name for name, _ in commands()}


@pytest.mark.parametrize("command", [["run"], ["bench", "kernels"], []], ids=" ".join)
def test_an_option_that_takes_no_value_shows_none(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = call(capsys, *command, "--help")
    assert code == 0
    assert "--help" in out
    assert "<bool>" not in out
    assert ("<int" in out) == bool(command)


def test_an_unexpected_error_is_one_line_and_a_traceback_with_debug(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> None:
        raise ZeroDivisionError("a fault\nof ours")

    monkeypatch.setattr("scansearch.runs.overview.runs_below", broken)
    code, _, err = call(capsys, "list")
    assert (code, err) == (
        1,
        "error: unexpected ZeroDivisionError: a fault of ours (the same command with --debug shows where)\n",
    )
    for arguments in (["--debug", "list"], ["list", "--debug"]):
        with pytest.raises(ZeroDivisionError):
            main(arguments)


@pytest.mark.parametrize("width", ["50", "80"])
def test_help_breaks_no_word(
    width: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    code, out, _ = call(capsys, "show", "--help")
    assert code == 0
    assert max(map(len, out.splitlines())) <= int(width)


def test_budgets_take_prefixes(capsys: pytest.CaptureFixture[str]) -> None:
    assert [read_number(text) for text in ("20M", "1.5G", "300 k", "1.5e9", ".5", "7")] == [
        20e6, 1.5e9, 300e3, 1.5e9, 0.5, 7.0,
    ]  # fmt: skip
    for text in ("20 MB", "M", "-3", "nan", "inf", "1e999"):
        with pytest.raises(ValueError, match="is no number"):
            read_number(text)
    code, _, err = call(capsys, "derive", "runs/x", "--max-params", "20 MB")
    assert (code, err.count("\n")) == (2, 1)
    assert "'20 MB' is no number: write 20M, 1.5G or 1.5e9" in err
