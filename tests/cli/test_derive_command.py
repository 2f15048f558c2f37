"""``scansearch derive``: from run folders or files to a genotype, with one clear line for every mistake."""

import pytest
import typer
from typer.testing import CliRunner

from scansearch.cli.derive import derive_command
from scansearch.errors import InputError
from scansearch.files.strict import dump_yaml
from scansearch.records.costs import Costs
from scansearch.records.genotype import Genotype
from scansearch.records.preferences import Preferences

CANDIDATES = (("h", "v", "w2", "v_flip"),) * 2
SCORES = ((0.1, 0.2, 0.4, 0.3), (0.4, 0.3, 0.2, 0.1))


@pytest.fixture
def derive_cli():
    app = typer.Typer()
    app.command()(derive_command)

    def invoke(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if isinstance(result.exception, InputError):
            raise result.exception
        assert result.exception is None, result.output
        return result.output

    return invoke


@pytest.fixture
def run_folder(tmp_path, tiny_space):
    def make(name="run", scores=SCORES, costs=True):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.yaml").write_text("space: tiny-test\n")
        (folder / "space.yaml").write_text(dump_yaml(tiny_space.model_dump(mode="json", by_alias=True)))
        Preferences(
            space="tiny-test", variant="micro", selection="magnitude", candidates=CANDIDATES, scores=scores
        ).save(folder / "preferences.json")
        if costs:
            table = {"fixed": 100, "table": [[1, 1, 5, 1]] * 2}
            Costs.model_validate(
                {
                    "image_size": [8, 8],
                    "convention": "made up",
                    "candidates": CANDIDATES,
                    "flops": table,
                    "params": table,
                }
            ).save(folder / "costs.json")
        return folder

    return make


def test_a_run_gives_a_genotype_file_and_tells_what_it_spent(derive_cli, run_folder, tmp_path):
    output = derive_cli(run_folder(), "--k", 1, "--max-flops", 102, "--out", tmp_path / "g.yaml")
    genotype = Genotype.load(tmp_path / "g.yaml")
    assert genotype.layers == (("v_flip",), ("h",))
    assert "flops: 102 of 102" in output
    assert "summed preference 0.700000 (proven best), k = 1" in output
    assert "lost to the budget: 0.100000" in output
    assert "max_flops binds: without budgets the best choice costs 106" in output


def test_several_seeds_are_averaged(derive_cli, run_folder, tmp_path):
    other = run_folder("other", ((0.4, 0.3, 0.1, 0.2), (0.4, 0.3, 0.2, 0.1)), costs=False)
    output = derive_cli(run_folder(), other, "--k", 1, "--out", tmp_path / "g.yaml")
    assert Genotype.load(tmp_path / "g.yaml").layers == (
        ("h",),
        ("h",),
    )  # 0.25 three times: lowest cost, then name
    assert "agreement of 2 seeds" in output


def test_wishes_reach_the_derivation(derive_cli, run_folder, tmp_path):
    folder, out = run_folder(), tmp_path / "g.yaml"
    wishes = [
        (["--k", 2, "--require", "h"], (("h", "w2"), ("h", "v"))),
        (["--k", 1, "--require", "1:v"], (("w2",), ("v",))),
        (["--k", 1, "--forbid", "0:w2", "--forbid", "h"], (("v_flip",), ("v",))),
        (["--k", 2, "--pair-flips"], (("v", "v_flip"), ("v", "v_flip"))),
        (["--k-min", 1, "--k-max", 2, "--max-params", 107], (("v", "v_flip"), ("h", "v"))),
        (["--k", 1, "--layer-k", "1:3"], (("w2",), ("h", "v", "w2"))),
    ]
    for arguments, layers in wishes:
        derive_cli(folder, *arguments, "--out", out)
        assert Genotype.load(out).layers == layers, arguments


def test_the_front_is_written_as_numbered_files(derive_cli, run_folder, tmp_path):
    output = derive_cli(run_folder(), "--pareto", 3, "--out", tmp_path / "front.yaml")
    sizes = [sum(Genotype.load(tmp_path / f"front-{i}.yaml").directions_per_layer) for i in (1, 2, 3)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 2
    assert sizes[-1] == 8
    assert "front-3.yaml" in output


def test_nothing_is_written_without_out(derive_cli, run_folder, tmp_path):
    folder = run_folder()
    before = sorted(tmp_path.rglob("*"))
    assert "not written: add --out" in derive_cli(folder, "--k", 1)
    assert sorted(tmp_path.rglob("*")) == before


def test_mistakes_are_one_clear_line(derive_cli, run_folder, tmp_path):
    folder, bare = run_folder(), run_folder("bare", costs=False)
    (tmp_path / "young").mkdir()
    (tmp_path / "young" / "config.yaml").write_text("space: vim8\n")
    training = tmp_path / "training"
    training.mkdir()
    (training / "config.yaml").write_text("model: genotype.yaml\n")
    mistakes = [
        ([folder], "how many directions per layer"),
        ([folder, "--k", 9], "k = 9"),
        ([tmp_path / "nowhere", "--k", 1], "nowhere"),
        ([tmp_path, "--k", 1], "holds no run"),
        ([tmp_path / "young", "--k", 1], "neither preferences.json nor a checkpoint"),
        ([bare, "--k", 1, "--max-flops", 5], "max_flops needs costs"),
        ([bare, "--pareto", 2], "--pareto needs costs"),
        ([folder, "--pareto", 2, "--measure", "latency_ms"], "allowed: flops, params"),
        ([folder, "--k", 1, "--require", "x:h"], "--require 'x:h': the layer before the colon"),
        ([folder, "--k", 1, "--layer-k", "1"], "--layer-k '1': write LAYER:K"),
        ([folder, "--k", 1, "--out", tmp_path / "run" / "space.yaml" / "g.yaml"], "is no folder"),
        ([training, "--k", 1], "is a training's run folder, but derive takes a search's run folder"),
        ([folder, "--k", 1, "--space", "vim9"], "unknown space 'vim9'"),
        ([folder, "--k", 1, "--space", "vim8"], "other candidates"),
    ]
    for arguments, problem in mistakes:
        with pytest.raises(InputError, match=problem) as caught:
            derive_cli(*arguments)
        assert "\n" not in str(caught.value)
