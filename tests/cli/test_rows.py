"""Tables and their rows as JSON, an output that is refused before work starts, the right command for a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.commands import call

import scansearch
from scansearch.cli import main
from scansearch.files.strict import dump_yaml
from scansearch.records.costs import Costs
from scansearch.records.genotype import Genotype
from scansearch.records.space import load_space
from scansearch.runs.folder import Run
from scansearch.runs.overview import search_next
from scansearch.runs.search_run import run_search
from scansearch.searching.config import search_config


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a search, and a training of what it chose."""
    from support.tiny import TINY_SPACE

    folder = tmp_path_factory.mktemp("runs")
    (folder / "tiny.yaml").write_text(dump_yaml(TINY_SPACE))
    config = search_config(
        space=str(folder / "tiny.yaml"), data="fake:8x8:3", epochs=1, k=2, batch_size=16, device="cpu"
    )
    result = run_search(config, out=folder / "search")
    assert f"scansearch costs {folder / 'search'}" in search_next(folder / "search", result.genotype)
    scansearch.train(folder / "search", out=folder / "training", epochs=1, batch_size=16, device="cpu")
    return folder


def rows(capsys: pytest.CaptureFixture, *arguments: str) -> list[dict]:
    """What ``scansearch ARGUMENTS --json`` prints: a list of objects and nothing else."""
    code, out, err = call(capsys, *arguments, "--json")
    assert code == 0, err
    table = json.loads(out)
    assert isinstance(table, list)
    return table


def test_lists_as_json_say_what_there_is(capsys) -> None:
    spaces = {(row["space"], row["variant"]): row for row in rows(capsys, "spaces")}
    micro = spaces["vim8", "micro"]
    assert (micro["family"], micro["default"], micro["image_size"]) == ("local_vim", True, 28)
    assert micro["candidates"] == [list(names) for names in load_space("vim8").layer_candidates("micro")]
    assert "w<K>" in {row["direction"] for row in rows(capsys, "directions")}
    order = rows(capsys, "directions", "--show", "v", "--height", "2", "--width", "2")
    assert [(row["row"], row["column"]) for row in order] == [(0, 0), (1, 0), (0, 1), (1, 1)]


def test_costs_as_json_are_the_figures_of_the_file(runs, tmp_path, capsys) -> None:
    out = tmp_path / "made" / "costs.json"
    fixed, *table = rows(capsys, "costs", str(runs / "search"), "--out", str(out))
    costs = Costs.load(out)
    assert (fixed["layer"], fixed["direction"], fixed["flops"]) == (None, None, costs.flops.fixed)
    names = [(layer, name) for layer, names in enumerate(costs.candidates) for name in names]
    assert [(row["layer"], row["direction"]) for row in table] == names
    assert [row["params"] for row in table] == [value for row in costs.params.table for value in row]
    assert fixed["latency_ms"] is None


def test_costs_take_every_kind_of_model(runs, capsys) -> None:
    """A run costs what its genotype costs; with weights, classes and channels are theirs."""
    genotype = Run.open(runs / "search").genotype

    def params(name: str, *options: str) -> float:
        return sum(row["params"] for row in rows(capsys, "costs", name, *options))

    untrained = [params(str(runs / name)) for name in ("search", "search/genotype.yaml")]
    assert untrained == [sum(p.numel() for p in genotype.build().parameters())] * 2
    trained = [params(str(runs / name)) for name in ("training", "training/best.safetensors")]
    result = json.loads((runs / "training" / "result.json").read_text())
    assert trained == [result["params"]] * 2
    assert params(str(runs / "training"), "--num-classes", "7") > trained[0]
    assert params(str(runs / "tiny.yaml")) > untrained[0]


def test_scores_as_json_are_those_of_the_table(runs, capsys) -> None:
    (row,) = rows(capsys, "evaluate", str(runs / "training"), "--device", "cpu")
    result = json.loads((runs / "training" / "result.json").read_text())
    assert row["top1"] == pytest.approx(result["test"]["top1"])
    assert row["per_class"].keys() == set(row["classes"])
    compared = rows(capsys, "compare", str(runs / "search"), str(runs / "training"))
    assert {entry["kind"] for entry in compared} == {"search", "train"}
    derived = rows(capsys, "derive", str(runs / "search"), "--k", "2")
    genotype = Run.open(runs / "search").genotype
    assert [tuple(map(tuple, entry["layers"])) for entry in derived] == [genotype.layers]
    assert derived[0]["certificate"]["objective"] == genotype.certificate.objective
    assert derived[0]["file"] is None
    arguments = ("rank", str(runs / "search"), "--samples", "3", "--steps", "1", "--k", "1")
    assert {entry["score"] for entry in rows(capsys, *arguments)} == {"gates", "perturbation", "inherited"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("costs", "vim8", "--latency"),
        ("rank", "search", "--samples", "3"),
        ("evolve", "search"),
        ("derive", "search", "--k", "1"),
        ("evaluate", "training"),
        ("compare", "training"),
        ("export", "training", "--format", "yaml"),
        ("convert", "training/best.safetensors", "--model", "localvim_tiny"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_an_output_that_cannot_be_written_is_refused_before_any_work(
    arguments, runs, tmp_path, capsys, monkeypatch
) -> None:
    def work(*args: object, **options: object) -> None:
        raise AssertionError("work was started")

    for name in (
        "scansearch.analysis.fidelity.open_search",
        "scansearch.runs.evolve_run.open_search",
        "scansearch.costing.latency.measure_costs",
        "scansearch.derivation.derive.derive",
        "scansearch.evaluation.evaluate.evaluate",
        "scansearch.analysis.compare.compare",
        "scansearch.exporting.source.load_source",
        "scansearch.models.checkpoints.convert_checkpoint",
    ):
        monkeypatch.setattr(name, work)
    (tmp_path / "file").touch()
    monkeypatch.chdir(runs)
    before = sorted(runs.rglob("*"))
    out = tmp_path / "file" / ("g.safetensors" if arguments[0] == "convert" else "g.yaml")
    code, stdout, err = call(capsys, *arguments, "--out", str(out))
    assert (code, stdout) == (2, "")
    assert err == f"error: --out {out}: cannot be written: {str(tmp_path / 'file')!r} is no folder\n"
    assert sorted(runs.rglob("*")) == before


WRONG_RUN = {
    "derive": (
        ["training", "--k", "1"],
        "'training' is a training's run folder, but derive takes a search's",
    ),
    "evolve": (["training"], "'training' is a training's run folder, but evolve takes a search's run folder"),
    "rank": (
        ["training"],
        "(what takes a training's run folder: evaluate, predict, export, compare, train, costs, plot)",
    ),
    "evaluate": (["search"], "'search' is a search's run folder, but evaluate takes a training's run folder"),
    "train": (["tiny.yaml"], "is a search space, but train takes a genotype file"),
    "run": (
        ["--resume", "training"],
        "is a training's run folder, but run --resume takes a search's run folder",
    ),
    "train --resume": (
        ["search"],
        "is a search's run folder, but train --resume takes a training's run folder",
    ),
    "export": (["tiny.yaml", "--format", "yaml", "--out", "x.yaml"], "is a search space, but export takes"),
}


@pytest.mark.parametrize("command", WRONG_RUN)
def test_the_wrong_kind_of_run_says_what_it_is_and_what_takes_it(command, runs, capsys, monkeypatch) -> None:
    monkeypatch.chdir(runs)
    arguments, message = WRONG_RUN[command]
    code, out, err = call(capsys, *command.split(), *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "what takes a" in err
    assert err.count("\n") == 1


def test_names_with_brackets_are_shown_as_they_are(capsys) -> None:
    from scansearch.cli.screen import print_table

    print_table(("class", "[b]"), [("[dog]", "[red]1[/red]")])
    assert capsys.readouterr().out.split() == ["class", "[b]", "[dog]", "[red]1[/red]"]


def test_resume_names_what_to_leave_out_as_it_is_written(runs, capsys) -> None:
    for command, option, value in (("run", "--set", "k=1"), ("train", "--config", "x.yaml")):
        code, _, err = call(capsys, command, "--resume", str(runs / "search"), option, value)
        assert (code, f"leave out {option}" in err) == (2, True)
    with pytest.raises(SystemExit):
        main(["train", "localvim_tiny", "--resume", str(runs / "training")])
    assert "leave out the model" in capsys.readouterr().err


def test_evolving_and_exporting_from_python(runs, tmp_path) -> None:
    result = scansearch.evolve(runs / "search", k=1, evaluations=4, seed=3)
    assert [genotype.layers for genotype in result.genotypes] == [
        one.layers for one in result.evolution.front
    ]
    assert len(result.evolution.scored) == 4
    assert result.genotypes[0].provenance.data == "fake:8x8:3"
    assert result.genotypes[0].provenance.selection == "evolution"
    assert result.journal.is_file()
    assert set(map(frozenset, result.own.layers)) == set(
        map(frozenset, Run.open(runs / "search").genotype.layers)
    )
    again = scansearch.evolve(runs / "search", k=1, evaluations=4, seed=3)
    assert again.evolution.scored == result.evolution.scored
    exported = scansearch.export(runs / "training", "yaml", tmp_path / "new" / "g.yaml")
    assert Genotype.load(exported.out) == Run.open(runs / "training").genotype


def test_the_journal_is_named_after_the_checkpoint_that_was_read(runs, tmp_path) -> None:
    """Where the newest checkpoint is damaged, scores are those of an older supernet."""
    import shutil

    folder = tmp_path / "search"
    shutil.copytree(runs / "search", folder)
    for path in folder.glob("evolution-*"):
        path.unlink()
    older, newest = Run.open(folder).checkpoints()
    newest.write_bytes(newest.read_bytes()[:-1])
    warnings: list[str] = []
    result = scansearch.evolve(folder, k=1, evaluations=2, warn=warnings.append)
    assert result.journal == folder / f"evolution-{older.stem}.journal"
    assert [newest.name in line for line in warnings] == [True]


def test_an_evolution_without_a_choice_of_costs_says_so_and_what_it_wrote(runs, tmp_path, capsys) -> None:
    own = Run.open(runs / "search").genotype
    arguments = ("evolve", str(runs / "search"), "--seed", "5")
    code, out, _ = call(capsys, *arguments, "--k", "1", "--evaluations", "6")
    result = scansearch.evolve(runs / "search", k=1, evaluations=6, seed=5)
    assert code == 0
    assert len({one.cost for one in result.evolution.scored}) == 1
    assert "all of them cost the same (" in out
    assert "--k-min and --k-max let costs differ" in out
    assert f"the genotype that the search chose: validation loss {result.own.loss:.4f}, flops" in out
    assert f"scores written to {result.journal}" in out
    whole = scansearch.evolve(runs / "search", k=len(own.layers[0]), evaluations=10_000, seed=6)
    canonical = {tuple(map(frozenset, one.layers)): one for one in whole.evolution.scored}
    met = canonical[tuple(map(frozenset, own.layers))]
    assert (met.loss, met.cost) == pytest.approx((result.own.loss, result.own.cost))
    code, out, _ = call(capsys, *arguments, "--k-min", "1", "--k-max", "2", "--evaluations", "12")
    assert (code, "cost the same" in out) == (0, False)


def test_splits_go_by_the_names_that_folders_have(runs, capsys) -> None:
    scores = [
        rows(capsys, "evaluate", str(runs / "training"), "--split", name, "--device", "cpu")
        for name in ("validation", "val", "valid")
    ]
    assert {score["split"] for (score,) in scores} == {"validation"}
    assert len({score["loss"] for (score,) in scores}) == 1
    code, _, err = call(capsys, "evaluate", str(runs / "training"), "--split", "train")
    assert (code, "unknown split 'train' (allowed: validation, val, test)" in err) == (2, True)


def test_epochs_count_from_one_and_layers_from_zero(runs, tmp_path) -> None:
    import json

    from scansearch.plots.training import epoch_numbers
    from scansearch.records.weights import read_header

    for run in ("search", "training"):
        for kind in ("step", "epoch"):
            assert next(record["epoch"] for record in Run.open(runs / run).metrics(kind)) == 1
    result = json.loads((runs / "training" / "result.json").read_text())
    header = read_header(runs / "training" / "best.safetensors")
    assert header.notes["best_epoch"] == result["best_epoch"]
    assert epoch_numbers([{"epoch": 0}, {"epoch": 1}, {"epoch": 3}]) == [1, 2, 4]
    assert epoch_numbers([{"epoch": 1}, {"epoch": 2}]) == [1, 2]
    scansearch.export(runs / "training", "hub", tmp_path / "hub")
    card = (tmp_path / "hub" / "README.md").read_text()
    first = " ".join(Run.open(runs / "training").genotype.layers[0])
    assert f"| 0 | {first} |" in card
    assert f"| 0 | {first} |" in (runs / "training" / "summary.md").read_text()


def test_evolve_starts_from_the_preferences_of_a_finished_run_and_refuses_a_population_of_a_model(
    runs, tmp_path, capsys, monkeypatch
) -> None:
    import shutil

    from scansearch.searching import evolution

    priors = []

    def heard(*arguments, **options):
        priors.append(options["prior"])
        return evolution.Evolution((("h",),), None, (evolution.Scored((("h",),), 1.0, 0.0),))

    def no_genotype(*arguments, **options):
        raise KeyboardInterrupt

    folder = tmp_path / "search"
    shutil.copytree(runs / "search", folder)
    monkeypatch.setattr("scansearch.runs.evolve_run.evolution.evolve", heard)
    monkeypatch.setattr("scansearch.runs.evolve_run._provenance", no_genotype)
    for proposals in ("model", "nsga2"):
        with pytest.raises(KeyboardInterrupt):
            scansearch.evolve(folder, k=1, proposals=proposals)
    (folder / "genotype.yaml").unlink()  # not finished: its preferences may change yet
    with pytest.raises(KeyboardInterrupt):
        scansearch.evolve(folder, k=1)
    assert priors == [Run.open(runs / "search").preferences.scores, None, None]
    for options, message in (
        (("--population", "4"), "a population goes with proposals 'nsga2' only, not 'model'"),
        (("--proposals", "tpe"), "unknown proposals 'tpe' (allowed: model, nsga2)"),
    ):
        code, _, err = call(capsys, "evolve", str(runs / "search"), *options)
        assert (code, message in err, err.count("\n")) == (2, True, 1)
