"""``scansearch plot``: what it draws, where it writes, what it tells, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.commands import call
from typer.main import get_command

from scansearch.cli import app
from scansearch.records.genotype import Genotype
from scansearch.records.preferences import Preferences


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search's folder of 13 layers, a genotype file, and pictures, one of them broken."""
    base = tmp_path_factory.mktemp("plots")
    run = base / "run"
    (run / "plots").mkdir(parents=True)
    (run / "config.yaml").write_text("space: vim8\n")
    candidates, layers = (("h", "v", "w2"),) * 13, (("h", "w2"),) * 13
    Genotype(family="local_vim", layers=layers, model={"img_size": 8, "patch_size": 2}).save(
        run / "genotype.yaml"
    )
    scores = ((0.5, 0.2, 0.3),) * 13
    Preferences(
        space="vim8", variant="micro", selection="magnitude", candidates=candidates, scores=scores
    ).save(run / "preferences.json")
    lines = [{"kind": "epoch", "step": epoch, "epoch": epoch, "probabilities": scores} for epoch in (1, 2)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    pixels = np.random.default_rng(0).integers(0, 255, (12, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(base / "picture.png")
    (base / "broken.png").write_bytes((base / "picture.png").read_bytes()[:300])
    return base


DRAWN = {
    "run": (["run"], ["run/plots/preferences.png"], "12     h  w2"),
    "movement": (
        ["run", "--kind", "movement"],
        ["run/plots/movement-1.png", "run/plots/movement-2.png"],
        "0      h  w2",
    ),
    "layer": (["run", "--kind", "movement", "--layer", "12"], ["run/plots/movement.png"], "h  w2"),
    "genotype": (["run/genotype.yaml", "--out", "made/a.pdf"], ["made/a.pdf"], "h  w2"),
    "over": (["run", "--kind", "paths", "--image", "picture.png", "--out", "b.svg"], ["b.svg"], "h  w2"),
    "published": (["localvim_tiny"], ["genotype.png"], "19     v  v_flip  w2  w2_flip"),
    "space": (["vim8", "--layer", "1", "--out", "c.png"], ["c.png"], "h  h_flip  v"),
    "direction": (["w2_flip", "--grid", "2x4"], ["paths.png"], "8 7 4 3\n6 5 2 1\n"),
}
START = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_is_written_and_told(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, files, told = DRAWN[name]
    monkeypatch.chdir(folder)
    code, out, err = call(capsys, "plot", *arguments)
    assert (code, err) == (0, "")
    assert told in out
    assert out.splitlines()[-len(files) :] == [f"written to {file}" for file in files]
    for file in map(Path, files):
        assert file.read_bytes().startswith(START[file.suffix])


def test_nothing_in_the_working_folder_is_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "paths.png").write_text("mine")
    assert "written to paths-2.png" in call(capsys, "plot", "h")[1]
    assert (tmp_path / "paths.png").read_text() == "mine"


def test_the_image_is_seen_below_the_paths(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, options in (("with", ["--image", str(folder / "picture.png")]), ("without", [])):
        assert call(capsys, "plot", "h", *options, "--out", str(tmp_path / f"{name}.png"))[0] == 0
    seen, empty = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("with", "without"))
    assert (seen != empty).mean() > 0.3


BAD = {
    "nothing": (["no_such"], "nor is it a scan direction such as 'w7_flip'"),
    "wrong kind": (["run", "--kind", "curves"], "(allowed: preferences, movement, genotype, paths)"),
    "kind of a direction": (["w2", "--kind", "genotype"], "'w2' is a scan direction, which has no such"),
    "unknown kind": (
        ["run", "--kind", "x"],
        "genotype, paths, curves, agreement, comparison, field)",
    ),
    "ending": (["w2", "--out", "a.gif"], "must end in .png or .svg or .pdf"),
    "text as picture": (["w2", "--image", "run/config.yaml"], "allowed: PNG, JPEG, BMP"),
    "broken picture": (["w2", "--image", "broken.png"], "picture 'broken.png' cannot be read"),
    "no picture": (["w2", "--image", "none.png"], "'none.png' cannot be read: No such file"),
    "image elsewhere": (
        ["run", "--image", "picture.png"],
        "--image belongs to --kind paths, not preferences",
    ),
    "grid elsewhere": (["run", "--grid", "4"], "--grid belongs to --kind paths, not preferences"),
    "layer elsewhere": (["run", "--layer", "0"], "--layer belongs to --kind paths or movement"),
    "layer of a direction": (["w2", "--layer", "0"], "is a scan direction, which has no layers"),
    "no such layer": (["run", "--kind", "paths", "--layer", "13"], "(allowed: 0 to 12)"),
    "negative layer": (["run", "--kind", "paths", "--layer", "-1"], "(allowed: 0 to 12)"),
    "no grid": (["w2", "--grid", "0x4"], "expected a side such as 14, or ROWSxCOLUMNS"),
    "large grid": (["w2", "--grid", "129"], "(allowed: 1 to 128 a side)"),
    "picture as subject": (["picture.png"], "picture.png"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_drawn_is_one_line(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, message = BAD[name]
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    code, out, err = call(capsys, "plot", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert sorted(folder.rglob("*")) == before


def test_the_options_of_plot_are_these() -> None:
    """An option that appears or disappears is a decision: change this list with it."""
    options = {name for parameter in get_command(app).commands["plot"].params for name in parameter.opts}
    assert options == {"what", "--kind", "--image", "--layer", "--grid", "--out"}
