"""What a name stands for, told in one place; what a command cannot use is named with the command that can."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.commands import call

from scansearch.errors import InputError
from scansearch.files.strict import dump_yaml
from scansearch.models.published import PUBLISHED
from scansearch.records.genotype import Genotype
from scansearch.records.lookup import (
    Kind,
    expect_kind,
    expect_search,
    expect_training,
    find_genotype,
    look_up,
    published_genotype,
)
from scansearch.records.space import SearchSpace
from scansearch.records.weights import save_weights

EVERYTHING: tuple[Kind, ...] = (
    "published",
    "space",
    "genotype",
    "search",
    "training",
    "weights",
    "exported",
)


@pytest.fixture
def shelf(tmp_path: Path, tiny_space: SearchSpace, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one of each kind."""
    monkeypatch.chdir(tmp_path)
    space = dump_yaml(tiny_space.model_dump(mode="json", by_alias=True))
    genotype = Genotype.of_space(tiny_space, [["h"], ["v", "w2"]])
    genotype.save(tmp_path / "genotype.yaml")
    (tmp_path / "space.yml").write_text(space)
    model = genotype.build(num_classes=2, in_chans=1)
    save_weights(tmp_path / "w.safetensors", model, genotype, {"num_classes": 2, "in_chans": 1}, {})
    for name in (
        "search",
        "young-search",
        "training",
        "young-training",
        "bare",
        "weights-only",
        "hub",
        "empty",
    ):
        (tmp_path / name).mkdir()
    for name in ("search", "young-search"):
        (tmp_path / name / "config.yaml").write_text("space: tiny\n")
        (tmp_path / name / "space.yaml").write_text(space)
    for name in ("training", "young-training"):
        (tmp_path / name / "config.yaml").write_text("model: genotype.yaml\n")
    for name in ("search", "training", "young-training", "bare"):
        genotype.save(tmp_path / name / "genotype.yaml")
    for name in ("training", "weights-only"):
        (tmp_path / name / "best.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes())
    (tmp_path / "hub" / "config.json").write_text("{}")
    (tmp_path / "model.onnx").touch()
    return tmp_path


def test_every_name_stands_for_one_thing(shelf: Path) -> None:
    kinds = {
        "localvim_tiny": "published",
        "vim8": "space",
        "space.yml": "space",
        "genotype.yaml": "genotype",
        "w.safetensors": "weights",
        "model.onnx": "exported",
        "hub": "exported",
        "search": "search",
        "young-search": "search",
        "bare": "search",
        "training": "training",
        "young-training": "training",
        "weights-only": "training",
    }
    assert {name: look_up(name, EVERYTHING, command="test").kind for name in kinds} == kinds


def test_genotypes_and_weights_are_where_the_name_says(shelf: Path) -> None:
    genotype = Genotype.load(shelf / "genotype.yaml")
    for name in (
        "genotype.yaml",
        "w.safetensors",
        "search",
        "bare",
        "training",
        "young-training",
        "weights-only",
    ):
        assert look_up(name, EVERYTHING, command="test").genotype() == genotype, name
    files = {
        name: look_up(name, EVERYTHING, command="test").weight_file
        for name in (
            "training",
            "young-training",
            "search",
            "w.safetensors",
            "genotype.yaml",
            "localvim_tiny",
        )
    }
    assert {name: file and str(file) for name, file in files.items()} == {
        "training": "training/best.safetensors",
        "young-training": None,
        "search": None,
        "w.safetensors": "w.safetensors",
        "genotype.yaml": None,
        "localvim_tiny": None,
    }
    assert look_up("space.yml", ("space",), command="test").space().name == "tiny-test"
    assert look_up("vim8", ("space",), command="test").space().name == "vim8"


def test_what_comes_with_scansearch_goes_first_and_a_path_is_a_path(shelf: Path) -> None:
    Genotype.load(shelf / "genotype.yaml").save(shelf / "vim8")
    (shelf / "localvim_tiny").mkdir()
    Genotype.load(shelf / "genotype.yaml").save(shelf / "localvim_tiny" / "genotype.yaml")
    assert look_up("vim8", EVERYTHING, command="test").kind == "space"
    assert look_up("./vim8", EVERYTHING, command="test").kind == "genotype"
    assert find_genotype("localvim_tiny") == published_genotype("localvim_tiny")
    assert find_genotype("./localvim_tiny") == find_genotype(Path("localvim_tiny"))
    assert find_genotype(Path("localvim_tiny")).space == "tiny-test"


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_name_is_a_genotype(name: str) -> None:
    genotype, model = published_genotype(name), PUBLISHED[name]
    assert (genotype.family, genotype.layers) == (model.family, model.layers)


WRONG: dict[str, tuple[str, tuple[Kind, ...], str]] = {
    "training": (
        "training",
        ("search",),
        "'training' is a training's run folder, but x takes a search's run folder (what takes a training's run "
        "folder: evaluate, predict, export, compare, train, costs, plot)",
    ),
    "search": (
        "search",
        ("training", "weights"),
        "'search' is a search's run folder, but x takes a training's run folder or a weight file (what takes a "
        "search's run folder: train, derive, evolve, rank, export, costs, compare, plot)",
    ),
    "exported": (
        "model.onnx",
        ("genotype",),
        "'model.onnx' is an exported model (.pt2, .onnx or hub folder)",
    ),
    "space": ("vim8", ("genotype", "search"), "(what takes a search space: run, probe, costs, plot)"),
    "empty": ("empty", ("search",), "folder 'empty' is no run: it holds no genotype.yaml"),
    "missing": ("a/b", ("search",), "'a/b' does not exist: x takes a search's run folder"),
    "no model": (
        "localvim_huge",
        ("published",),
        "'localvim_huge' is unknown (did you mean 'localvim_tiny'?): x takes a published model (publ",
    ),
    "ending": ("text.bin", ("weights",), "'text.bin' has an unknown ending: x takes a weight file"),
    "no genotype": ("text.bin", ("genotype",), "text.bin"),
}


@pytest.mark.parametrize(("name", "accepted", "message"), WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_used_is_one_line(
    name: str, accepted: tuple[Kind, ...], message: str, shelf: Path
) -> None:
    (shelf / "text.bin").write_text("text")
    with pytest.raises(InputError) as caught:
        look_up(name, accepted, command="x").genotype()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_search_that_has_not_chosen_yet_says_so(shelf: Path) -> None:
    with pytest.raises(InputError, match=r"'young-search' holds no genotype.yaml yet: finish it"):
        find_genotype("young-search")


def test_the_other_kind_of_run_is_refused_and_nothing_else(shelf: Path) -> None:
    expect_search("search", command="derive")
    for name in (
        "empty",
        "weights-only",
        "bare",
        "missing",
        "text.bin",
    ):  # no runs at all, which is for others to say
        expect_search(name, command="derive")
        expect_training(name, command="x")
    expect_training("young-training", command="x")
    with pytest.raises(InputError, match="'training' is a training's run folder, but derive takes"):
        expect_search("training", command="derive")
    with pytest.raises(InputError, match="'search' is a search's run folder, but x takes"):
        expect_training("search", command="x")


SUBJECTS = {
    "vim8": "a search space",
    "space.yml": "a search space",
    "localvim_tiny": "a published model",
    "genotype.yaml": "a genotype file",
    "w.safetensors": "a weight file",
    "model.onnx": "an exported model (.pt2, .onnx or hub folder)",
    "hub": "an exported model (.pt2, .onnx or hub folder)",
    "p.json": "a preferences file",
    "search": "a search's run folder",
    "training": "a training's run folder",
}
TAKES = {
    "run --resume @": {"search"},
    "train --resume @": {"training"},
    "derive @ --k 1": {"search", "p.json"},
    "evolve @": {"search"},
    "rank @": {"search"},
    "compare @": {"search", "training"},
    "run --space @": {"vim8", "space.yml"},
    "train @": set(SUBJECTS) - {"vim8", "space.yml", "model.onnx", "hub", "p.json"},
    "evaluate @": {"training", "w.safetensors", "model.onnx", "hub"},
    "costs @": set(SUBJECTS) - {"model.onnx", "hub", "p.json"},
    "export @ --format yaml --out out.yaml": set(SUBJECTS)
    - {"vim8", "space.yml", "model.onnx", "hub", "p.json"},
    "convert @ --model localvim_tiny --out out.safetensors": {"w.safetensors"},
}


@pytest.mark.parametrize("command", TAKES)
def test_every_command_says_what_a_subject_is_that_it_cannot_use(
    command: str, shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is named is told for what it is, and never for missing or damaged."""
    (shelf / "p.json").write_text('{"selection": "magnitude", "scores": []}')
    wrong = [name for name in SUBJECTS if name not in TAKES[command]]
    assert wrong
    for name in wrong:
        code, _, err = call(capsys, *command.replace("@", name).split())
        assert code == 2, name
        assert f"{name!r} is {SUBJECTS[name]}, but " in err
        assert "(what takes a" in err
        assert err.count("\n") == 1


def test_a_weight_file_of_ours_is_not_converted_twice(
    shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("convert", "w.safetensors", "--model", "localvim_tiny", "--out", "out.safetensors")
    assert "w.safetensors is in scansearch's layout already" in call(capsys, *arguments)[2]


def test_a_name_that_stands_for_nothing_is_left_to_its_reader(shelf: Path) -> None:
    (shelf / "costs.json").write_text('{"schema": 1}')
    for name in ("costs.json", "vim9", "empty"):
        expect_kind(name, ("search", "preferences"), command="derive")
    with pytest.raises(InputError, match=r"costs\.json"):
        find_genotype("costs.json")
