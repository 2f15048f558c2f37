"""Every recipe loads, says what it reproduces, and does two steps on made images at small size."""

from __future__ import annotations

from pathlib import Path

import pytest

from scansearch import engine
from scansearch.data import load_data
from scansearch.data.instances.sources import load_objects
from scansearch.data.masks.sources import load_masks
from scansearch.engine.devices import make_accelerator
from scansearch.files.strict import load_yaml
from scansearch.models.published import PUBLISHED
from scansearch.records.lookup import find_genotype
from scansearch.records.space import load_space
from scansearch.searching.config import SearchConfig
from scansearch.searching.task import SearchTask
from scansearch.training.config import train_config
from scansearch.training.task import TrainTask

FOLDER = Path(__file__).parents[2] / "experiments" / "recipes"
SEARCHES = sorted(FOLDER.glob("search_*.yaml"))
TRAININGS = sorted(FOLDER.glob("train_*.yaml"))
SEGMENTATIONS = sorted(FOLDER.glob("segment_*.yaml"))
DETECTIONS = sorted(FOLDER.glob("detect_*.yaml"))

# What makes a model small without changing what a recipe says of training it.
NARROW = {"local_vim": {"embed_dim": 16, "states": 2}, "local_vmamba": {"dims": [8, 8, 8, 8], "states": 2}}


def two_steps(task):
    done = []
    for event in engine.drive(task, seed=task.config.seed):
        if isinstance(event, engine.StepDone):
            done.append(event)
        if len(done) == 2:
            return done
    return done


def test_every_published_model_has_a_recipe():
    named = {train_config(path).model for path in TRAININGS if path.stem != "train_digits"}
    published = {name for name in PUBLISHED if name.startswith("local") and not name.endswith("_search")}
    assert published <= named


@pytest.mark.parametrize(
    "path", SEARCHES + TRAININGS + SEGMENTATIONS + DETECTIONS, ids=lambda path: path.stem
)
def test_a_recipe_says_what_it_reproduces_and_what_it_wants(path):
    first = path.read_text().splitlines()[0]
    assert first.startswith("# ")
    assert "wants" in path.read_text().split("schema:")[0]


@pytest.mark.parametrize("path", TRAININGS, ids=lambda path: path.stem)
def test_a_training_recipe_does_two_steps(path):
    recipe = train_config(path, **({"model": "localvim_tiny"} if path.stem == "train_digits" else {}))
    genotype = find_genotype(recipe.model)
    small = {
        "data": "fake:40x36:3",
        "image_size": 32,
        "batch_size": 4,
        "device": "cpu",
        "workers": 0,
        "mixed_precision": "no",  # bf16 has tests of its own
        "model_options": NARROW[genotype.family],
    }
    config = recipe.model_copy(update=small)
    data = load_data(config.data, image_size=config.image_size, augment=config.augment)
    task = TrainTask(config, genotype, data, make_accelerator("cpu", config.mixed_precision))
    assert len(two_steps(task)) == 2


@pytest.mark.parametrize("path", SEGMENTATIONS, ids=lambda path: path.stem)
def test_a_segmentation_recipe_does_two_steps(path):
    recipe = train_config(path, **({"model": "localvim_tiny"} if path.stem == "segment_shapes" else {}))
    genotype = find_genotype(recipe.model)
    small = {
        "data": "shapes:40x36:8",
        "image_size": 32,
        "batch_size": 4,
        "device": "cpu",
        "workers": 0,
        "mixed_precision": "no",
        "model_options": NARROW[genotype.family],
        "head": recipe.head.model_copy(update={"channels": 8, "auxiliary_channels": 8}),
    }
    config = recipe.model_copy(update=small)
    data = load_masks(config.data, image_size=config.image_size, augment=config.augment)
    task = TrainTask(config, genotype, data, make_accelerator("cpu", config.mixed_precision))
    assert len(two_steps(task)) == 2


@pytest.mark.parametrize("path", DETECTIONS, ids=lambda path: path.stem)
def test_a_detection_recipe_does_two_steps(path):
    recipe = train_config(path, **({"model": "localvim_tiny"} if path.stem == "detect_shapes" else {}))
    genotype = find_genotype(recipe.model)
    small = {
        "data": "shapes:40x36:8",
        "image_size": 32,
        "batch_size": 4,
        "device": "cpu",
        "workers": 0,
        "mixed_precision": "no",
        "model_options": NARROW[genotype.family],
        "head": recipe.head.model_copy(update={"heads": "small"}),
    }
    config = recipe.model_copy(update=small)
    data = load_objects(config.data, image_size=config.image_size, augment=config.augment)
    task = TrainTask(config, genotype, data, make_accelerator("cpu", config.mixed_precision))
    assert len(two_steps(task)) == 2


@pytest.mark.parametrize("path", SEARCHES, ids=lambda path: path.stem)
def test_a_search_recipe_does_two_steps(path):
    recipe = load_yaml(path, SearchConfig)
    space = load_space(recipe.space)
    name = recipe.variant or space.default_variant
    sizes = space.variant(name)
    slim = {"embed_dim": 16} if space.family == "local_vim" else {"dims": (8, 8, 8, 8)}
    supernet = sizes.supernet.model_copy(update=slim)
    backbone = sizes.backbone.model_copy(update={"states": 2})
    small = sizes.model_copy(update={"image_size": 32, "supernet": supernet, "backbone": backbone})
    space = space.model_copy(update={"variants": {name: small}})
    changes = {
        "data": "fake:40x36:3",
        "batch_size": 4,
        "device": "cpu",
        "workers": 0,
        "mixed_precision": "no",
    }
    config = recipe.model_copy(update=changes)
    data = load_data(config.data, image_size=32, augment=config.augment)
    assert len(two_steps(SearchTask(config, space, data, make_accelerator("cpu", "no")))) == 2
