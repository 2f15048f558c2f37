"""Names of unknown origin on a terminal, in tables and spreadsheets: shown, never obeyed."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.commands import call
from support.pictures import made_images
from support.trainings import tiny_genotype

import scansearch
from scansearch.analysis.compare import Row, to_csv, to_markdown
from scansearch.cli.screen import print_lines, print_table
from scansearch.data import load_data
from scansearch.engine import make_accelerator
from scansearch.errors import InputError, RunStopped
from scansearch.evaluation.evaluate import evaluate_model
from scansearch.runs.folder import default_folder
from scansearch.text import printable, spreadsheet_cell, table_cell

ESCAPES = "cat\x1b]0;owned\x07\x1b[2J\u202egod\x9b31m\udcff"


def test_no_control_character_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert printable("größe ± 3") == "größe ± 3"
    print_lines([ESCAPES])
    print_table(("class",), [(ESCAPES,)])
    out = capsys.readouterr().out
    assert "cat\\x1b" in out
    for sign in "\x1b\x07\u202e\x9b\udcff":
        assert sign not in out


def test_an_error_line_shows_no_control_character(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, error = call(capsys, "evaluate", f"{ESCAPES}.pt2")
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert "\x1b" not in error


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "|a|", "`x`", "<b>", "a\nb"]
)
def test_tables_hold_texts_and_no_formulas_or_markup(text: str) -> None:
    row = Row(text, "train", text, "hash", 1, 50.0, None, 50.0, 50.0, 50.0, 1.0, 1.0)
    (read,) = csv.DictReader(io.StringIO(to_csv([row])))
    assert read["name"][0] not in "=+-@\t\r"
    assert float(read["score"]) == 50
    line = to_markdown([row]).splitlines()[2]
    assert line.replace("\\|", "").count("|") == 12
    assert "<" not in line.replace("\\<", "")


def test_cells_of_ordinary_texts_are_left_alone() -> None:
    assert spreadsheet_cell("vim8 k=4") == table_cell("vim8 k=4") == "vim8 k=4"


@pytest.mark.parametrize("name", ["../../..", "/etc", "a/b", "..", "", "\x00", "n" * 300])
def test_a_run_folder_lies_below_runs(name: str) -> None:
    folder = default_folder(name, "train", 0)
    assert folder.parent == Path("runs")
    assert "/" not in folder.name
    assert len(folder.name) < 200


def test_logits_that_are_not_finite_are_an_error() -> None:
    data = load_data("fake:8x8:4", image_size=8)
    with pytest.raises(RunStopped, match="not finite"):
        evaluate_model(lambda x: torch.full((len(x), 4), torch.nan), data, make_accelerator("cpu", "no"))


def test_too_many_workers_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["run", "--set", "workers=100000"], ["evaluate", str(tmp_path), "--workers", "100000"]):
        code, _, error = call(capsys, *command)
        assert (code, error.count("\n")) == (2, 1)
        assert "workers" in error
    assert list(tmp_path.iterdir()) == []


def test_only_the_first_process_tells_what_is_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        errors.append(call(capsys, "run", "--space", "none")[2])
    assert errors[0].count("\n") == 1
    assert errors[1] == ""


def test_an_interruption_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in jobs of the background
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        finally:
            signal.signal(signal.SIGINT, before)

    monkeypatch.setattr("scansearch.runs.evolve_run.evolve", interrupted)
    monkeypatch.setattr("scansearch.analysis.fidelity.rank_run", interrupted)
    for command in ("evolve", "rank"):
        assert call(capsys, command, "folder") == (130, "", "error: interrupted\n")


ODD = ("\x1b[31mred", "a|b", "<img src=x>", "$10_$20", "n" * 200)


@pytest.fixture(scope="module")
def odd_training(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[scansearch.TrainResult, list[Any], list[str]]:
    """A training on odd class names, what it told, and what was warned, with one picture that cannot be drawn."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (60, 8, 8), dtype=np.uint8)
    data = scansearch.data_from_arrays(images, [i % 5 for i in range(60)], classes=ODD, name="odd")
    told: list[Any] = []

    def fails(*_: Any, **__: Any) -> None:
        raise InputError("nothing to draw")

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        patch.setattr("scansearch.plots.training.curves_figure", fails)
        result = scansearch.train(
            tiny_genotype(),
            data=data,
            out=tmp_path_factory.mktemp("odd") / "run",
            epochs=1,
            batch_size=8,
            device="cpu",
            observe=told.append,
        )
    return result, told, [str(one.message) for one in warned]


def test_odd_class_names_are_shown_and_not_obeyed(odd_training: Any) -> None:
    result, _, warned = odd_training
    summary = (result.run.folder / "summary.md").read_text()
    assert all(sign not in summary for sign in "\x1b\x07")
    assert "<img" not in summary.replace("\\<", "")
    rows = [
        line for line in summary.splitlines() if (line.startswith("| ") and "red" in line) or "a\\|b" in line
    ]
    assert len(rows) == 2
    assert all(row.replace("\\|", "").count("|") == 3 for row in rows)
    assert not [line for line in warned if "Glyph" in line or "ymbol" in line]
    assert set(json.loads((result.run.folder / "result.json").read_text())["test"]["classes"]) == set(ODD)


def test_a_picture_that_cannot_be_drawn_loses_no_result(odd_training: Any) -> None:
    result, told, _ = odd_training
    assert "plots/training.png is not drawn: nothing to draw" in [getattr(one, "text", "") for one in told]
    assert not (result.run.folder / "plots" / "training.png").exists()
    for name in ("result.json", "summary.md", "plots/confusion.png", "plots/samples.png"):
        assert (result.run.folder / name).stat().st_size > 0


# --- what is no regular file ---


@pytest.mark.parametrize(
    "command",
    [
        ["run", "--config", "{}"],
        ["run", "--space", "{}"],
        ["train", "{}"],
        ["export", "{}", "--format", "yaml", "--out", "out.yaml"],
        ["costs", "{}"],
        ["evaluate", "{}"],
        ["convert", "{}", "--model", "vim_tiny", "--out", "out.safetensors"],
    ],
    ids=lambda command: command[0] + command[1][:8],
)
@pytest.mark.parametrize("name", ["pipe.yaml", "pipe.pt2", "/dev/zero"])
def test_pipes_and_devices_are_refused_unread(
    name: str,
    command: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    if not name.startswith("/"):
        os.mkfifo(name)
    code, _, error = call(capsys, *[part.format(name) for part in command])
    assert (code, error.count("\n")) == (2, 1), error


def test_a_pipe_or_a_device_among_images_is_a_broken_image(tmp_path: Path) -> None:
    made_images(tmp_path / "data", ["a", "b"], 6)
    os.mkfifo(tmp_path / "data" / "a" / "pipe.png")
    (tmp_path / "data" / "b" / "endless.png").symlink_to("/dev/zero")
    data = load_data(f"folder:{tmp_path / 'data'}", image_size=8)
    messages = []
    for part in (data.train, data.validation, data.test):
        for index in range(part.count):
            try:
                part.read(index)
            except InputError as error:
                messages.append(str(error))
    assert len(messages) == 2
    assert all("is no regular file" in message for message in messages)


def test_a_link_to_a_folder_above_shows_no_picture_twice(tmp_path: Path) -> None:
    made_images(tmp_path / "data", ["a", "b"], 6)
    (tmp_path / "data" / "a" / "loop").symlink_to(tmp_path / "data")
    data = load_data(f"folder:{tmp_path / 'data'}", image_size=8)
    assert data.train.count + data.validation.count + data.test.count == 12
    assert "passed over 'a/loop': a link to a folder above it" in data.notes


def test_names_of_data_that_are_no_utf8_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = call(capsys, "run", "--data", "folder:\udcff\x1b")
    assert (code, error.count("\n")) == (2, 1)
    assert "UTF-8" in error


def test_a_missing_costs_file_is_called_missing(tmp_path: Path) -> None:
    from scansearch.records.costs import Costs

    with pytest.raises(InputError) as refused:
        Costs.load(tmp_path / "costs.json")
    assert "No such file" in str(refused.value)
    assert "JSON" not in str(refused.value)


def test_evaluations_are_json(tmp_path: Path) -> None:
    data = load_data("fake:8x8:4", image_size=8)
    rng = np.random.default_rng(0)
    found = evaluate_model(
        lambda x: torch.from_numpy(rng.normal(size=(len(x), 4))).float(), data, make_accelerator("cpu", "no")
    )
    json.loads(found.to_json(), parse_constant=lambda name: pytest.fail(name))
