"""``scansearch show``, ``list`` and ``doctor``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.commands import call
from support.run_folders import search_folder, training_folder

from scansearch.bench import doctor
from scansearch.files.lock import held, is_held
from scansearch.records.genotype import Genotype

HOSTILE = "\x1b[31m<b>"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Finished and unfinished ones, one of them deeper, a damaged one, a probe, and folders that are no run."""
    search_folder(tmp_path / "a")
    search_folder(tmp_path / "deep" / "er" / "b", finished=False, epochs=1, strategy="darts", seed=3)
    training_folder(tmp_path / "c", optimizer={"lr": 0.5})
    (tmp_path / "d" / "checkpoints").mkdir(parents=True)
    (tmp_path / "d" / "config.yaml").write_text("a: [")
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "settings.json").write_text('{"space": "vim8", "data": "digits", "seed": 1}')
    (tmp_path / "none" / "plots").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    search_folder(tmp_path / ".hidden" / "f")
    return tmp_path


def test_list_tells_state_space_data_and_score_of_every_run(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(capsys, "list", str(runs))
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()[1:]]
    assert [line[:3] for line in lines] == [
        ["a", "search", "finished"],
        ["c", "training", "finished"],
        ["d", "search", "damaged"],
        ["deep/er/b", "search", "unfinished,"],
        ["e", "probe", "unfinished"],
    ]
    assert lines[0][3:] == ["tiny-test", "digits", "localmamba", "0", "80.25", "81.50"]
    assert lines[1][3:5] == ["tiny-test", "digits"]
    assert lines[3][3:] == ["epoch", "1", "of", "2", "tiny-test", "digits", "darts", "3", "51.00"]
    assert lines[4][3:6] == ["vim8", "digits", "probe"]
    code, out, _ = call(capsys, "list", str(runs), "--json")
    rows = json.loads(out)
    assert [row["score"] for row in rows] == [80.25, 66.67, None, None, None]
    assert "expected" in rows[2]["problem"]


def test_list_without_runs_and_without_a_folder(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "list", str(runs / "none"))
    assert (code, out) == (0, f"no runs below {runs / 'none'}\n")
    assert call(capsys, "list", str(runs / "none"), "--json")[1] == "[]\n"
    code, _, err = call(capsys, "list", str(runs / "nome"))
    assert (code, err) == (2, f"error: folder '{runs}/nome' does not exist (did you mean '{runs}/none'?)\n")


def test_show_tells_what_was_asked_found_and_comes_next(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = call(capsys, "show", str(runs / "a"))
    assert code == 0
    text = " ".join(out.split())
    for part in (
        "finished asked space tiny-test data digits strategy localmamba k 2",
        "supernet: test accuracy 80.25 %, validation accuracy 81.50 %",
        "layers directions 0 h v 1 w2 v_flip",
        "warning: layer 1: the margin is below its noise",
        f"next: scansearch train {runs}/a scansearch derive {runs}/a --k 1",
    ):
        assert part in text
    _, out, _ = call(capsys, "show", str(runs / "c"))
    assert "optimizer.lr" in out  # asked, and not the default
    assert "schedule" not in out
    assert "the weights are of epoch 2 of 3" in out
    assert f"scansearch evaluate {runs}/c" in out


def test_show_tells_where_an_unfinished_run_stopped_and_how_it_goes_on(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = runs / "deep" / "er" / "b"
    _, out, _ = call(capsys, "show", str(folder))
    assert "unfinished, epoch 1 of 2, step 1" in out
    assert "no checkpoint was written yet" in out
    assert f"scansearch run --resume {folder}" in out
    assert f"scansearch derive {folder} --k 2" in out
    (row,) = json.loads(call(capsys, "show", str(folder), "--json")[1])
    assert row["state"] == "unfinished"
    assert row["asked"]["strategy"] == "darts"
    assert row["asked"]["k"] == 2
    assert row["next"][0].endswith(f"--resume {folder}")
    with held(folder / ".lock", "in use"):
        assert is_held(folder / ".lock")
        (row,) = json.loads(call(capsys, "show", str(folder), "--json")[1])
        assert (row["state"], row["next"]) == ("running", [])
    assert not is_held(folder / ".lock")


def test_show_says_what_is_wrong(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "config.yaml: line 1" in call(capsys, "show", str(runs / "d"))[1]
    code, _, err = call(capsys, "show", str(runs / "none"))
    assert (code, "holds no run" in err) == (2, True)
    (runs / "a" / "result.json").write_text('{"test": 3}')
    code, out, _ = call(capsys, "show", str(runs / "a"))
    assert (code, "its files are not as scansearch writes them" in out) == (0, True)


def test_a_table_loses_nothing_of_a_long_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "run-" + "x" * 190
    search_folder(tmp_path / name)
    out = call(capsys, "list", str(tmp_path))[1]
    assert out.count("x") == 190
    assert "…" not in out


def test_show_lets_no_text_speak_to_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = training_folder(
        tmp_path / "run", model=HOSTILE, genotype=Genotype(family="local_vim", layers=(("h",),))
    )
    out = call(capsys, "show", str(folder))[1] + call(capsys, "list", str(tmp_path))[1]
    assert "\x1b" not in out
    assert "\\x1b[31m<b>" in out


# --- doctor ---


def test_doctor_tests_each_kernel_and_tells_what_an_extra_brings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.metadata, "requires", _requires)
    code, out, _ = call(capsys, "doctor", "--json")
    rows = {(row["part"], row["subject"]): row for row in json.loads(out)}
    assert code == 0
    assert rows["kernels", "reference"]["state"] == rows["kernels", "cpu"]["state"] == "works"
    assert "differ from the reference by" in rows["kernels", "cpu"]["words"]
    assert rows["package", "torch"]["state"] == "works"
    missing = rows["extra", "made-up"]
    assert missing["state"] == "absent"
    assert missing["words"] == "no-such-package (not installed): pip install 'scansearch[made-up]'"
    assert "everything that is installed works" in call(capsys, "doctor")[1]


def _requires(name: str) -> list[str]:
    return ["torch>=2.9", "no-such-package>=1; extra == 'made-up'", "ruff; extra == 'dev'"]


def test_doctor_finds_wrong_kernels_and_old_packages(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = doctor.selective_scan

    def wrong(*arguments, backend, **options):
        return right(*arguments, backend=backend, **options) * (1.001 if backend == "cpu" else 1)

    monkeypatch.setattr(doctor, "selective_scan", wrong)
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: ["torch>=99"])
    code, out, _ = call(capsys, "doctor", "--json")
    rows = {row["subject"]: row for row in json.loads(out)}
    assert code == 1
    assert rows["cpu"]["part"] in ("device", "kernels")
    states = {(row["part"], row["subject"]): row["state"] for row in json.loads(out)}
    assert states["kernels", "cpu"] == "broken"
    assert states["kernels", "reference"] == "works"
    assert rows["torch"]["state"] == "broken"
    assert "pip install 'torch>=99'" in rows["torch"]["words"]
    assert call(capsys, "doctor")[1].endswith("broken: torch, cpu\n")
