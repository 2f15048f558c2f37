"""How a run looks while it is at work: in a terminal, in a notebook, in a pipe."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from support.trainings import tiny_genotype

import scansearch
from scansearch import engine
from scansearch.runs import screens
from scansearch.runs.folder import Run
from scansearch.runs.progress import RunView, shown
from scansearch.runs.recorder import Started, Warned, ignore

METRICS = {"loss": 1.25, "accuracy": 98.5, "validation_accuracy": 97.5}


def play(view: Callable[[Any], None]) -> None:
    """The events of a short run."""
    heading = "localmamba search of vim8 on folder:/a/rather/long/path/to/pictures"
    view(Started(Run(Path("runs/x")), heading, 2, 200, 0, 123_456, "1 GFLOPs", (1257, 360, 180)))
    view(engine.StepDone(step=100, epoch=0, metrics=METRICS))
    view(engine.EpochDone(step=100, epoch=0, metrics=METRICS))
    view(Warned("<b>something</b>"))


def terminal(width: int) -> list[str]:
    """The lines of a terminal of ``width`` signs, without its orders to colour and move."""
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, color_system=None)
    screen = screens.TerminalScreen(console)
    view = RunView(screen=screen)
    play(view)
    console.print(screen.progress.get_renderable())
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [50, 60, 70, 80, 120])
def test_no_line_of_a_terminal_is_wider_than_it_and_the_bar_is_one(width: int) -> None:
    lines = terminal(width)
    assert max(map(len, lines)) <= width
    assert "epoch 1/2" in lines[-1]
    assert "100/200" in lines[-1]
    assert "epoch" not in lines[-2]
    words = "localmamba search of vim8 on folder:/a/rather/long/path/to/pictures (1257 training, 360"
    joined = " ".join(line.strip() for line in lines)
    assert words in joined or width < 60  # no word is broken


def test_a_pipe_has_whole_lines_and_no_bar() -> None:
    file = io.StringIO()
    with RunView(screen=screens.TerminalScreen(Console(file=file, width=40))) as view:
        play(view)
    lines = file.getvalue().splitlines()
    assert "(1257 training, 360 validation, 180 test images)" in lines[0]
    assert lines[-1] == "warning: <b>something</b>"
    assert "100/200" not in file.getvalue()


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A kernel of Jupyter; what its cell showed, one after the other."""
    pages: list[str] = []

    def display(value: Any, display_id: bool) -> Any:
        pages.append(value.data)
        return SimpleNamespace(update=lambda other: pages.append(other.data))

    shell = SimpleNamespace(kernel=object())
    fake = SimpleNamespace(get_ipython=lambda: shell, version_info=(9, 0))
    monkeypatch.setitem(sys.modules, "IPython", fake)
    output = SimpleNamespace(display=display, HTML=lambda text: SimpleNamespace(data=text))
    monkeypatch.setitem(sys.modules, "IPython.display", output)
    return pages


def test_a_notebook_shows_lines_and_a_bar_in_one_output(
    notebook: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screens, "_SECONDS", 0.0)
    seen: list[Any] = []
    with shown(True, seen.append) as observe:
        play(observe)
    assert len(seen) == 4
    assert any('<progress value="100" max="200">' in page for page in notebook)
    assert "<progress" not in notebook[-1]
    assert "warning: &lt;b&gt;something&lt;/b&gt;" in notebook[-1]
    assert "validation  97.5 %" in notebook[-1]


def test_nothing_is_shown_in_a_pipe_or_where_it_is_not_wanted(notebook: list[str]) -> None:
    with shown(False) as observe:
        assert observe is ignore
    assert notebook == []


def test_a_pipe_without_a_notebook_gets_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(True) as observe:
        assert observe is ignore
    assert capsys.readouterr() == ("", "")


def test_only_the_first_of_several_processes_talks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    file = io.StringIO()
    with RunView(screen=screens.TerminalScreen(Console(file=file, width=80))) as view:
        play(view)
    assert file.getvalue() == ""


def test_search_and_train_show_it_unless_told_not_to(
    notebook: list[str], tiny_space: Any, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "data": "fake:8x8:2",
        "epochs": 1,
        "batch_size": 32,
        "device": "cpu",
        "image_size": 8,
    }
    scansearch.search(tiny_space, **options, k=2, out=tmp_path / "silent", progress=False)
    assert notebook == []
    scansearch.search(tiny_space, **options, k=2, out=tmp_path / "search")
    assert "localmamba search of tiny-test" in notebook[-1]
    notebook.clear()
    scansearch.train(tiny_genotype(), **options, out=tmp_path / "training")
    assert "training of genotype" in notebook[-1]
