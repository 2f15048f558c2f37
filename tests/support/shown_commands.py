"""Commands as pages show them: found in Markdown, and parsed without running anything."""

from __future__ import annotations

import re
import shlex
from typing import Any

from typer.main import get_command

from scansearch.cli import app


def shown_commands(text: str) -> list[str]:
    """Every command in an indented block or between backticks, once, without its comment."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    blocks = re.findall(r"^    (\S.*)$", prose, re.MULTILINE)
    inline = re.findall(r"`((?:scansearch|torchrun|make|pip) [^`]+)`", prose)
    lines = [part for line in blocks for part in re.split(r"\s+#\s", line)[0].split(" && ")]
    commands = [line.strip() for line in [*lines, *inline]]
    return [line for line in dict.fromkeys(commands) if not line.startswith(". ")]


def understand(command: str) -> None:
    """Parse ``scansearch ...``; its command, arguments and options must exist and be complete.

    Raises:
        Exception: typer's, of an unusable command line.
    """
    found, arguments = _named(command)
    if not arguments:
        arguments = ["--help"]
    found.make_context("shown", arguments, resilient_parsing="--help" in arguments)


def unknown_options(command: str) -> list[str]:
    """Options in ``scansearch ...``, which may be a part of a command line, that its command does not have.

    Raises:
        KeyError: there is no such command.
    """
    found, arguments = _named(command)
    if found.context_settings.get("ignore_unknown_options"):  # it passes them on
        return []
    known = {flag for parameter in found.params for flag in parameter.opts}
    return [word for word in arguments if word.startswith("--") and word not in known]


def _named(command: str) -> tuple[Any, list[str]]:
    found, arguments = get_command(app), shlex.split(command)[1:]
    while hasattr(found, "commands"):
        found = found.commands[arguments.pop(0)]
    return found, arguments
