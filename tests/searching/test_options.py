"""Every field of the configuration reaches the code: changing it changes what the search does, not only a file."""

from __future__ import annotations

import pytest
import torch
from support.planted import made_data

from scansearch import engine
from scansearch.costing.flops import space_costs
from scansearch.errors import InputError
from scansearch.searching.config import SearchConfig, search_config
from scansearch.searching.selection import select

BASE = {"epochs": 3, "batch_size": 16, "k": 2, "seed": 0, "alphas": {"warmup_epochs": 1}}

# field -> (what to change beside BASE, the other value of the field)
CHANGES = {
    "strategy": ({}, {"strategy": "topk"}),
    "relaxation": ({}, {"relaxation": "sigmoid"}),
    "update": ({}, {"update": "bilevel"}),
    "selection": ({}, {"selection": "perturbation"}),
    "k": ({"strategy": "topk"}, {"strategy": "topk", "k": 1}),
    "epochs": ({}, {"epochs": 4}),
    "batch_size": ({}, {"batch_size": 32}),
    "seed": ({}, {"seed": 1}),
    "mixed_precision": ({}, {"mixed_precision": "bf16"}),
    "early_stop_epochs": ({"alphas": {"lr": 1e-9}}, {"alphas": {"lr": 1e-9}, "early_stop_epochs": 1}),
    "weights.lr": ({}, {"weights": {"lr": 1e-3}}),
    "weights.weight_decay": ({}, {"weights": {"weight_decay": 0.5}}),
    "weights.decay": ({}, {"weights": {"decay": "released"}}),
    "weights.warmup_epochs": ({}, {"weights": {"warmup_epochs": 0.0}}),
    "weights.clip_norm": ({}, {"weights": {"clip_norm": 0.1}}),
    "weights.drop_path": ({}, {"weights": {"drop_path": 0.5}}),
    "weights.label_smoothing": ({}, {"weights": {"label_smoothing": 0.0}}),
    "alphas.lr": ({}, {"alphas": {"lr": 0.1}}),
    "alphas.weight_decay": ({}, {"alphas": {"weight_decay": 10.0}}),
    "alphas.warmup_epochs": ({}, {"alphas": {"warmup_epochs": 2}}),
    "alphas.entropy_weight": ({}, {"alphas": {"entropy_weight": 1.0}}),
    "alphas.cost_weight": ({}, {"alphas": {"cost_weight": 10.0}}),
    # Of 36 genotypes.
    "evolution.evaluations": (
        {"strategy": "spos", "evolution": {"evaluations": 8}},
        {"strategy": "spos", "evolution": {"evaluations": 9}},
    ),
    "evolution.proposals": (
        {"strategy": "spos", "evolution": {"evaluations": 20, "proposals": "model"}},
        {"strategy": "spos", "evolution": {"evaluations": 20, "proposals": "nsga2"}},
    ),
    "evolution.population": (
        {"strategy": "spos", "evolution": {"evaluations": 20, "proposals": "nsga2", "population": 2}},
        {"strategy": "spos", "evolution": {"evaluations": 20, "proposals": "nsga2", "population": 10}},
    ),
    "temperature.start": ({}, {"temperature": {"start": 5.0, "end": 1.0}}),
    "temperature.end": ({}, {"temperature": {"start": 1.0, "end": 0.2}}),
    "temperature.schedule": (
        {"temperature": {"start": 5.0, "end": 0.2}},
        {"temperature": {"start": 5.0, "end": 0.2, "schedule": "exponential"}},
    ),
}

# Fields that do not change the numbers, and where they are tested instead.
ELSEWHERE = {
    "task": "test_segmentation.py",
    "head": "test_segmentation.py",
    "schema_version": "refused by the model when it is not 1",
    "space": "test_cli.py",
    "variant": "test_cli.py",
    "data": "test_data.py",
    "image_size": "test_cli.py",
    "device": "test_cli.py",
    "augment": "test_data.py",
    "channels": "test_decoding.py",
    "max_broken": "test_data.py",
    "workers": "test_data.py: the same batches with and without workers",
    "accumulate": "test_updates.py: micro-batches add up to the whole batch",
    "checkpoint_minutes": "below",
    "track": "test_trackers.py",
    "verify": "test_verification.py",
    "verify_steps": "test_verification.py",
}


def outcome(make_task, tiny_space, options):
    merged = {**BASE, **options}
    for group in ("alphas", "weights"):
        if group in options:
            merged[group] = {**BASE.get(group, {}), **options[group]}
    costs = space_costs(tiny_space, image_size=8, num_classes=4, in_chans=1)
    # A table with differences: on an unpadded grid all directions cost the same, and the expected cost is flat.
    table = tuple(tuple(value * (1 + place) for place, value in enumerate(row)) for row in costs.flops.table)
    costs = costs.model_copy(update={"flops": costs.flops.model_copy(update={"table": table})})
    task = make_task(costs=costs, **merged)
    losses = [
        e.metrics["loss"] for e in engine.drive(task, seed=task.config.seed) if isinstance(e, engine.StepDone)
    ]
    return losses, torch.tensor(select(task).scores).flatten()


def _fields(model, prefix=""):
    for name, field in model.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        if inner is not None:
            yield from _fields(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_every_field_is_in_one_of_the_two_lists():
    assert set(_fields(SearchConfig)) == set(CHANGES) | set(ELSEWHERE)


@pytest.mark.parametrize("field", CHANGES)
def test_changing_a_field_changes_losses_or_preferences(make_task, tiny_space, field):
    before, after = (outcome(make_task, tiny_space, options) for options in CHANGES[field])
    assert before[0] != after[0] or not torch.equal(before[1], after[1])


def test_cost_weight_prefers_cheap_candidates(make_task, tiny_space):
    _, scores = outcome(make_task, tiny_space, {"alphas": {"cost_weight": 100.0, "lr": 0.1}})
    for layer in scores.reshape(2, 4):
        order = layer.argsort(descending=True).tolist()
        assert order[0] == 0
        assert set(order[2:]) == {2, 3}


def test_entropy_weight_sharpens_or_flattens(make_task, tiny_space):
    def largest(weight):
        _, scores = outcome(make_task, tiny_space, {"alphas": {"entropy_weight": weight, "lr": 0.1}})
        return scores.reshape(2, 4).amax(1)

    sharp, flat = largest(10.0), largest(-10.0)
    assert (sharp > flat).all()


def test_checkpoint_minutes_decides_how_often_a_long_epoch_is_saved(make_task):
    def saved(minutes):
        task = make_task(epochs=1, data=made_data(320))
        events = engine.drive(task, seed=0, checkpoint_minutes=minutes)
        return sum(isinstance(event, engine.CheckpointReady) for event in events)

    assert saved(1e-9) == 20
    assert saved(60.0) == 10  # every tenth


def test_unknown_names_are_refused_with_what_is_allowed():
    for options, message in (
        ({"strategy": "x"}, "unknown strategy 'x' \\(allowed: localmamba"),
        ({"relaxation": "x"}, "unknown relaxation"),
        ({"update": "x"}, "unknown update"),
        ({"selection": "x"}, "unknown selection"),
        ({"alphas": {"x": 1}}, "unknown key 'alphas.x'"),
        ({"batch_size": 10, "accumulate": 3}, "not a multiple"),
        ({"update": "fair"}, "goes with relaxation 'uniform' only"),
    ):
        with pytest.raises(InputError, match=message):
            search_config(space="vim8", **options)


def test_a_population_means_nsga2_as_it_did_and_goes_with_no_model() -> None:
    """Configurations from before there were other proposals name a population and no proposals."""
    assert search_config(space="vim8", evolution={"population": 20}).evolution.proposals == "nsga2"
    assert search_config(space="vim8").evolution.proposals == "model"
    with pytest.raises(InputError, match="goes with proposals 'nsga2' only, not 'model'"):
        search_config(space="vim8", evolution={"proposals": "model", "population": 20})
