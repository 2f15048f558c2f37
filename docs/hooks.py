"""What `mkdocs build` adds to the pages of docs/: the pages beside the code, and one page of all commands.

The site has the folders of the repository, so that a link between two pages is the same here and there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = "docs/commands.md"
# Pages beside the code, with what they show and link to.
BESIDE = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "search_spaces/*",
    "kernels/*.md",
    "experiments/README.md",
    "experiments/results/*",
    "experiments/results/vim8-digits/*",
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Move docs/ to its place in the repository, and add the other pages."""
    inside = Path(config.docs_dir)
    for file in list(files):
        source = file.abs_src_path
        if source is not None and Path(source).is_relative_to(inside):
            files.remove(file)
            files.append(File.generated(config, f"docs/{file.src_uri}", abs_src_path=source))
    for path in beside():
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    files.append(File.generated(config, COMMANDS, content=commands_page()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """A link to a folder leads to its page."""
    here = Path(page.file.src_uri).parent

    def whole(match: re.Match[str]) -> str:
        target = match[1].rstrip("/")
        folder = Path(here, target) if target else here
        is_folder = "://" not in match[1] and (ROOT / folder).is_dir()
        return f"]({target}/README.md)" if is_folder else match[0]

    return re.sub(r"\]\(([^)#\s]+)\)", whole, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Roles of docstrings, as in :func:`scansearch.derive`, become the name alone."""
    return re.sub(r":(?:attr|class|data|exc|func|meth|mod):<code>~?([^<]+)</code>", r"<code>\1</code>", html)


def beside() -> list[Path]:
    """The files of ``BESIDE``."""
    found = (path for pattern in BESIDE for path in ROOT.glob(pattern) if path.is_file())
    return sorted(found)


def commands_page() -> str:
    """Every command with its arguments, options and example, as Markdown, from the command line itself."""
    lines = [
        "# Commands",
        "",
        "The same as `scansearch COMMAND --help`. `scansearch --debug COMMAND ...` shows the traceback of an",
        "unexpected error; `scansearch --install-completion` sets up completion in your shell.",
    ]
    for name, command in commands():
        lines += ["", f"## scansearch {name}", "", *_told(command.help), ""]
        parameters = [one for one in command.params if one.name != "help"]
        arguments = [one for one in parameters if one.param_type_name == "argument"]
        options = [one for one in parameters if one.param_type_name == "option"]
        if arguments:
            lines += ["| argument | |", "| --- | --- |"]
            lines += [f"| `{one.metavar or one.name.upper()}` | {_cell(one.help)} |" for one in arguments]
            lines += [""]
        if options:
            lines += ["| option | takes | |", "| --- | --- | --- |"]
            lines += [f"| {_flags(one)} | {_takes(one)} | {_cell(_help(one))} |" for one in options]
            lines += [""]
        example = str(command.epilog).removeprefix("Example: ")
        lines += [f"    {example}"]
    return "\n".join(lines) + "\n"


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its whole name."""
    from typer.main import get_command

    from scansearch.cli import app

    for name, command in get_command(app).commands.items():
        inner = getattr(command, "commands", None)
        if inner is None:
            yield name, command
        else:
            yield from ((f"{name} {part}", one) for part, one in inner.items())


def _told(text: str | None) -> list[str]:
    """The lines of a docstring, without what only the terminal needs."""
    return [line.strip() for line in (text or "").replace("\f", "").strip().splitlines()]


def _flags(option: Any) -> str:
    return " ".join(f"`{flag}`" for flag in (*option.opts, *option.secondary_opts))


def _takes(option: Any) -> str:
    if option.is_flag:
        return ""
    name = getattr(option.type_descriptor.annotation, "__name__", str(option.type_descriptor.annotation))
    words = {"Path": "path", "str": "text", "int": "whole number", "float": "number"}
    return str(option.metavar or words.get(name.replace(" | None", ""), "text")).lower()


def _help(option: Any) -> str:
    text = str(option.help or "").strip()
    if option.required:
        return f"{text} Required."
    default = option.default
    shown = (
        option.show_default
        and not option.is_flag
        and default not in (None, (), "")
        and "default:" not in text
    )
    return f"{text} Default: {default}." if shown else text


def _cell(text: str | None) -> str:
    return re.sub(r"([|<])", r"\\\1", " ".join(str(text or "").split()))
