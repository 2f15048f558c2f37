"""Searches on objects: the supernet under Mask R-CNN, whose cost is the same for every choice."""

from __future__ import annotations

import json

import pytest
import torch
from support.detections import SHAPES, SIZE
from support.tiny import TINY_SPACE

from scansearch import engine
from scansearch.costing.decoders import network_flops, task_costs
from scansearch.data.instances.sources import load_objects
from scansearch.engine.devices import make_accelerator
from scansearch.errors import InputError
from scansearch.files.strict import validate
from scansearch.records.genotype import Genotype
from scansearch.records.heads import DetectionHead
from scansearch.records.space import SearchSpace
from scansearch.searching.config import search_config
from scansearch.searching.task import SearchTask
from scansearch.tasks import find_task

SPACE = validate(TINY_SPACE, SearchSpace, source="space")
HEAD = {"heads": "small", "anchors": 2.0}


def search_task(**options) -> SearchTask:
    settings = {"space": "tiny-test", "task": "detect", "data": SHAPES, "k": 2, "epochs": 1, "batch_size": 4}
    settings |= {"alphas": {"warmup_epochs": 0, "lr": 0.1}, "head": HEAD}
    config = search_config(**(settings | options))
    data = load_objects(SHAPES, image_size=SIZE)
    return SearchTask(config, SPACE, data, make_accelerator("cpu", "no"))


def drive(task: SearchTask, **options) -> list[engine.Event]:
    return list(engine.drive(task, seed=task.config.seed, **options))


@pytest.mark.parametrize("strategy", ["localmamba", "darts"])
def test_alphas_and_decoder_learn_and_a_resumed_search_ends_bit_identical(strategy: str) -> None:
    whole = search_task(strategy=strategy)
    before = {name: value.clone() for name, value in whole.supernet.state_dict().items()}
    events = drive(whole)
    (epoch,) = [event for event in events if isinstance(event, engine.EpochDone)]
    assert {"validation_loss", "validation_box_ap", "validation_mask_ap", "probabilities"} <= set(
        epoch.metrics
    )
    moved = {
        name for name, value in whole.supernet.state_dict().items() if not torch.equal(before[name], value)
    }
    assert {name for name in before if name.endswith("alpha") or name.startswith("decoder.")} <= moved
    saved = [event for event in events if isinstance(event, engine.CheckpointReady)]
    resumed = search_task(strategy=strategy)
    drive(resumed, resume=(saved[1].tensors, json.loads(json.dumps(saved[1].state))))
    for name, tensor in whole.tensors().items():
        assert torch.equal(resumed.tensors()[name], tensor), name
    losses = {whole.validation_loss(whole.subnetwork([[name], [name]])) for name in ("h", "v", "w2")}
    assert len(losses) == 3


def test_the_four_passes_of_the_second_order_draw_the_same_proposals(monkeypatch) -> None:
    """Their gradients are subtracted from each other, so what is drawn at random must not differ."""
    task, seen = search_task(strategy="darts2"), []
    forward = type(task.kind).forward

    def watched(self, network, images, targets, *gates):
        seen.append(torch.get_rng_state().sum())
        return forward(self, network, images, targets, *gates)

    monkeypatch.setattr(type(task.kind), "forward", watched)
    for event in engine.drive(task, seed=0):
        assert isinstance(event, engine.StepDone)
        break
    assert len(seen) == 5  # four of the alphas, one of the weights
    assert len(set(map(int, seen[:4]))) == 1


@pytest.mark.parametrize("size", [(16, 16), (15, 21)])
def test_costs_are_those_of_the_models_that_will_be_trained(size: tuple[int, int]) -> None:
    kind, head = find_task("detect"), DetectionHead(heads="small")
    costs = task_costs(SPACE, None, task="detect", head=head, image_size=size, classes=3, in_chans=3)
    for layers in ([["h"], ["v"]], [["h", "w2"], ["v_flip"]]):
        genotype = Genotype.of_space(SPACE, layers)
        arguments = kind.arguments(genotype.family, genotype.model, 3) | {"in_chans": 3, "img_size": size}
        backbone = genotype.build(**arguments)
        model = kind.whole(backbone, kind.decoder(backbone, 3, head))
        found = costs.of(genotype.layers)
        assert found["params"] == sum(p.numel() for p in model.parameters())
        assert found["flops"] == network_flops(model, *size)


def test_label_smoothing_is_refused() -> None:
    with pytest.raises(InputError, match="label_smoothing is not of task detect"):
        search_task(weights={"label_smoothing": 0.1})
