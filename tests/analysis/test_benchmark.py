"""The tabular benchmark: its table is what its script says, its noise figures are right, its data are fixed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from support.scripts import load_experiment

import scansearch
from scansearch.analysis.benchmark import genotype_means, noise
from scansearch.data import Split, load_data
from scansearch.data.translated import with_validation_in_training
from scansearch.errors import InputError, RunStopped
from scansearch.records.genotype import Genotype
from scansearch.seeding import Stream, seed_everything
from scansearch.training.brief import BriefRecipe, train_briefly

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def digits():
    return load_data("translated-digits", image_size=10)


@pytest.fixture(scope="module")
def script():
    return load_experiment("vim8_bench")


# --- the table ---


def test_the_table_holds_rows_of_the_script_and_none_twice(script):
    table = scansearch.bench_table()
    jobs = set(script.all_jobs(int(table["seed"].max()) + 1))
    rows = list(zip(table["layer_1"], table["layer_2"], table["seed"].tolist(), strict=True))
    assert len(rows) == len(set(rows))
    assert set(rows) <= jobs
    assert len(rows) == 192
    assert np.isfinite(table["test_nll"]).all()
    assert table["test_accuracy"].between(0, 100).all()


def test_other_files_are_refused_with_one_line(tmp_path):
    with pytest.raises(InputError, match="not a table"):
        scansearch.bench_table(tmp_path / "missing.csv")
    (tmp_path / "other.csv").write_text("layer_1,layer_2\nh,h\n")
    with pytest.raises(InputError, match="column 'seed' is missing"):
        scansearch.bench_table(tmp_path / "other.csv")


def test_the_script_goes_on_where_it_was_cut_off(script, tmp_path):
    path = tmp_path / "table.csv"
    jobs = script.all_jobs(2)
    assert len(jobs) == len(set(jobs)) == 128
    script.append_line(path, "h,h,0,1.0,50.0,1.1,9.0", ",".join(script.COLUMNS))
    script.append_line(path, "h,v,0,0.5,80.0,0.6,9.0")
    with open(path, "a") as file:
        file.write("h,w2,0,0.7")  # a process killed while writing
    assert script.done_jobs(path) == {("h", "h", 0), ("h", "v", 0)}
    script.append_line(path, "v,v,1,0.1,99.0,0.2,9.0")
    assert script.done_jobs(path) == {("h", "h", 0), ("h", "v", 0), ("v", "v", 1)}
    assert len(path.read_text().splitlines()) == 4
    assert script.done_jobs(tmp_path / "none.csv") == set()


# --- noise ---


def made_table(between, within, genotypes=400, seeds=3):
    generator = np.random.default_rng(0)
    rows = [
        {"layer_1": f"a{i}", "layer_2": "b", "seed": seed, "test_nll": mean + within * generator.normal()}
        for i, mean in enumerate(between * generator.normal(size=genotypes))
        for seed in range(seeds)
    ]
    return pandas.DataFrame(rows)


def test_noise_recovers_known_variance_components():
    found = noise(made_table(2.0, 1.0), resamples=200)
    assert found.between == pytest.approx(2.0, rel=0.1)
    assert found.seeds == pytest.approx(1.0, rel=0.1)
    assert found.icc == pytest.approx(0.8, abs=0.04)
    assert found.icc_interval[0] < found.icc < found.icc_interval[1]
    assert found.genotypes == 400


def test_noise_alone_explains_nothing_and_uneven_seeds_are_allowed():
    assert noise(made_table(0.0, 1.0), resamples=50).icc < 0.05
    table = made_table(2.0, 1.0)
    uneven = table[~((table["seed"] == 2) & (table.index % 2 == 0))]
    assert noise(uneven, resamples=50).icc == pytest.approx(0.8, abs=0.05)
    with pytest.raises(InputError, match="more than once"):
        noise(table[table["seed"] == 0])


def test_means_are_sorted_best_first():
    table = pandas.DataFrame(
        {
            "layer_1": ["h", "h", "v", "v"],
            "layer_2": ["v"] * 4,
            "seed": [0, 1, 0, 1],
            "test_nll": [2.0, 4.0, 0.5, 1.5],
            "test_accuracy": [20.0, 30.0, 90.0, 80.0],
        }
    )
    means = genotype_means(table)
    assert means["layer_1"].tolist() == ["v", "h"]
    assert means["mean"].tolist() == [1.0, 3.0]
    assert genotype_means(table, "test_accuracy")["layer_1"].tolist() == ["v", "h"]


# --- the data ---


def _images(split, count=None):
    return torch.stack([split.read(i)[0] for i in range(count or split.count)])


def test_splits_are_of_the_told_sizes_and_share_no_digit(digits):
    assert (digits.train.count, digits.validation.count, digits.test.count) == (9600, 2400, 4000)

    def digits_of(split):
        """Each canvas without its empty border, which identifies the digit."""
        found = set()
        for image in _images(split):
            shown = image[0] != image.min()
            rows, columns = (torch.nonzero(shown.any(axis)).flatten() for axis in (1, 0))
            found.add(image[0, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].numpy().tobytes())
        return found

    train, validation, test = (digits_of(split) for split in (digits.train, digits.validation, digits.test))
    assert not train & validation
    assert not train & test
    assert not validation & test
    assert len(train) <= 800


def test_every_place_occurs_about_equally_often(digits):
    empty = _images(digits.train).min()
    images = _images(digits.test)[:, 0] > empty
    top = images.any(2).float().argmax(1)
    counts = torch.bincount(top, minlength=3)[:3] / len(images)
    assert (counts - 1 / 3).abs().max() < 0.06


def test_training_images_are_normalised_and_always_the_same(digits):
    both = torch.cat([_images(digits.train), _images(digits.validation)])
    assert both.mean() == pytest.approx(0, abs=1e-3)
    assert both.std() == pytest.approx(1, abs=1e-3)
    again = load_data("translated-digits", image_size=10)
    assert torch.equal(_images(again.test, 100), _images(digits.test, 100))
    labels = bytes(digits.train.read(i)[1] for i in range(200))
    assert hashlib.sha256(labels).hexdigest().startswith("a8685daef8b3")


def test_canvases_may_have_any_size_that_holds_a_digit():
    wide = load_data("translated-digits", image_size=(8, 13))
    assert wide.train.read(0)[0].shape == (1, 8, 13)
    with pytest.raises(InputError, match="at least 8x8"):
        load_data("translated-digits", image_size=7)


def test_the_last_training_sees_train_and_validation_and_the_same_test(digits):
    whole = with_validation_in_training(digits)
    assert whole.train.count == 12000
    assert torch.equal(whole.train.read(9600)[0], digits.validation.read(0)[0])
    assert torch.equal(whole.train.read(9599)[0], digits.train.read(9599)[0])
    assert whole.test is digits.test


# --- the brief training ---


def _model(tiny_space, seed=0):
    seed_everything(Stream.WEIGHTS, seed)
    return Genotype.of_space(tiny_space, [["h"], ["v"]]).build(num_classes=10, in_chans=1)


def test_a_brief_training_learns_and_is_a_function_of_its_seed(tiny_space):
    data = load_data("translated-digits", image_size=8)
    few = Split(32, data.train.read)
    recipe = BriefRecipe(steps=60, batch_size=16, lr=2e-2)
    losses = [train_briefly(_model(tiny_space), few, recipe, seed=seed) for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    assert losses[0] < 2.0 < np.log(10)


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 1e-3},
        {"warmup": 0.5},
        {"weight_decay": 5.0},
        {"clip_norm": 0.01},
        {"steps": 9},
        {"batch_size": 8},
    ],
)
def test_every_option_of_the_recipe_matters(tiny_space, change):
    data = load_data("translated-digits", image_size=8)
    options = {"steps": 8, "batch_size": 16}
    plain = train_briefly(_model(tiny_space), data.train, BriefRecipe(**options), seed=0)
    assert train_briefly(_model(tiny_space), data.train, BriefRecipe(**options | change), seed=0) != plain


def test_a_loss_that_is_no_number_stops_with_one_line(tiny_space):
    split = Split(32, lambda i: (torch.full((1, 8, 8), float("nan")), 0))
    with pytest.raises(RunStopped, match="not a number at step 1"):
        train_briefly(_model(tiny_space), split, BriefRecipe(steps=2, batch_size=4), seed=0)
