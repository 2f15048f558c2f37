"""Runs that differ in their seed alone share a row, and its figures are their mean and spread."""

from __future__ import annotations

import csv
import json
import statistics

import pytest
import torch

from scansearch.analysis.compare import compare, to_csv, to_markdown
from scansearch.cli import main
from scansearch.errors import InputError
from scansearch.files.strict import dump_yaml
from scansearch.records.genotype import Genotype
from scansearch.records.weights import save_weights
from scansearch.training.config import train_config


def made_run(folder, *, seed=0, score=90.0, genotype="aaaa", model="g.yaml", kind="train", **options):
    """A finished run as its files tell it."""
    folder.mkdir(parents=True)
    if kind == "train":
        config = train_config(model=model, data="digits", seed=seed, **options).model_dump(
            mode="json", by_alias=True
        )
    else:
        config = {"space": "vim8", "strategy": "darts", "data": "digits", "seed": seed}
    result = {
        "kind": kind,
        "genotype": genotype,
        "params": 1000,
        "flops": 2e6,
        "validation": {"top1": score + 1},
        "test": {"top1": score, "image_size": [8, 8]},
    }
    (folder / "config.yaml").write_text(dump_yaml(config))
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def test_seeds_share_a_row_with_mean_and_sample_deviation(tmp_path):
    scores = [97.0, 98.5, 99.0]
    runs = [made_run(tmp_path / str(seed), seed=seed, score=score) for seed, score in enumerate(scores)]
    (row,) = compare(runs)
    assert row.seeds == 3
    assert row.score == pytest.approx(statistics.mean(scores))
    assert row.deviation == pytest.approx(statistics.stdev(scores))
    assert (row.lowest, row.highest) == (97.0, 99.0)
    assert row.validation == pytest.approx(statistics.mean(scores) + 1)
    assert (row.params, row.flops, row.latency_ms) == (1000, 2e6, None)


def test_one_seed_has_no_deviation(tmp_path):
    (row,) = compare([made_run(tmp_path / "a")])
    assert row.deviation is None
    assert "±" not in to_markdown([row]).splitlines()[2]


def test_other_settings_or_another_genotype_get_a_row_of_their_own_best_first(tmp_path):
    runs = [
        made_run(tmp_path / "a", score=90.0),
        made_run(tmp_path / "b", score=95.0, epochs=7),
        made_run(tmp_path / "c", score=92.0, genotype="bbbb", model="h.yaml"),
        made_run(tmp_path / "d", score=80.0, seed=3, device="cpu", workers=2),
    ]
    rows = compare(runs)
    assert [(row.name, row.seeds) for row in rows] == [
        ("g.yaml epochs=7", 1),
        ("h.yaml", 1),
        ("g.yaml epochs=25", 2),
    ]
    assert rows[-1].score == pytest.approx(85.0)


def test_equal_names_with_other_genotypes_are_told_apart(tmp_path):
    runs = [made_run(tmp_path / "a"), made_run(tmp_path / "b", genotype="bbbb")]
    assert {row.name for row in compare(runs)} == {"g.yaml aaaa", "g.yaml bbbb"}


def test_baselines_without_a_genotype_share_a_row_by_their_model(tmp_path):
    runs = [
        made_run(tmp_path / str(number), seed=number, score=80.0 + number, genotype=None, model=model)
        for number, model in enumerate(["timm:test_vit", "timm:test_vit", "timm:test_resnet"])
    ]
    rows = compare(runs)
    assert [(row.name, row.genotype, row.seeds) for row in rows] == [
        ("timm:test_resnet", "", 1),
        ("timm:test_vit", "", 2),
    ]


def test_searches_group_by_settings_though_their_genotypes_differ(tmp_path):
    runs = [made_run(tmp_path / n, kind="search", genotype=n, seed=i) for i, n in enumerate(("x", "y"))]
    (row,) = compare(runs)
    assert (row.name, row.kind, row.seeds, row.genotype) == ("vim8 darts", "search", 2, "2 different")
    # the score is the supernet's, and these would be the genotype's
    assert (row.params, row.flops) == (None, None)
    assert "| 2 different | 2 |" in to_markdown([row])


def test_searches_alone_are_compared_without_a_picture(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["compare", str(made_run(tmp_path / "a", kind="search")), "--out", str(tmp_path / "out")])
    assert not stop.value.code
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"compare.csv", "compare.md"}


def test_tables_hold_every_row(tmp_path):
    rows = compare([made_run(tmp_path / "a", score=91.25), made_run(tmp_path / "b", score=95.5, epochs=7)])
    records = list(csv.DictReader(to_csv(rows).splitlines()))
    assert [float(record["score"]) for record in records] == [95.5, 91.25]
    lines = to_markdown(rows).splitlines()
    assert len([line for line in lines if line.startswith("|")]) == 4
    assert "| 95.50 |" in lines[2]


def test_latency_is_measured_where_it_is_asked_for(tmp_path, tiny_space):
    folder = made_run(tmp_path / "a")
    genotype = Genotype.of_space(tiny_space, [["h"], ["v"]])
    torch.manual_seed(0)
    model = genotype.build(num_classes=4, in_chans=1, img_size=8)
    arguments = {"num_classes": 4, "in_chans": 1, "img_size": 8}
    save_weights(folder / "best.safetensors", model, genotype, arguments, {})
    (row,) = compare([folder], latency_device="cpu")
    assert row.latency_ms > 0
    with pytest.raises(InputError, match="cannot measure latency on 'tpu'"):
        compare([folder], latency_device="tpu")


def test_compare_prints_and_writes_table_and_figure(tmp_path, capsys):
    runs = [str(made_run(tmp_path / str(seed), seed=seed, score=90.0 + seed)) for seed in range(2)]
    with pytest.raises(SystemExit) as stop:
        main(["compare", *runs, "--out", str(tmp_path / "out")])
    assert not stop.value.code
    assert "90.50 ± 0.71" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "compare.csv",
        "compare.md",
        "compare.png",
    }


def test_what_cannot_be_compared_is_one_clear_line(tmp_path, capsys):
    good = made_run(tmp_path / "good")
    unfinished = made_run(tmp_path / "unfinished")
    (unfinished / "result.json").unlink()
    foreign = made_run(tmp_path / "foreign")
    (foreign / "result.json").write_text("[1]")
    for folders, message in (
        ([good, good], "given twice"),
        ([unfinished], "has not finished"),
        ([foreign], "not one of ours"),
        ([tmp_path], "holds no run"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["compare", *map(str, folders)])
        err = capsys.readouterr().err
        assert (stop.value.code, err.count("\n")) == (2, 1)
        assert message in err
