"""Searches on masks: the supernet under a decoder, whose cost is the same for every choice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from support.commands import call
from support.segmentations import SHAPES, SIZE
from support.tiny import TINY_SPACE

from scansearch import engine
from scansearch.costing.decoders import network_flops, task_costs
from scansearch.data.masks.sources import load_masks
from scansearch.engine.devices import make_accelerator
from scansearch.errors import InputError
from scansearch.files.strict import dump_yaml, validate
from scansearch.records.genotype import Genotype
from scansearch.records.heads import SegmentationHead
from scansearch.records.space import SearchSpace
from scansearch.runs.folder import Run
from scansearch.searching.assembly import assemble_search
from scansearch.searching.config import search_config
from scansearch.searching.task import SearchTask
from scansearch.tasks import find_task

VMAMBA_SPACE = {
    "schema": 1,
    "name": "tiny-vmamba",
    "family": "local_vmamba",
    "candidates": ["h", "v", "w2", "v_flip"],
    "default_variant": "micro",
    "variants": {
        "micro": {
            "image_size": 16,
            "depths": [1, 1],
            "backbone": {"patch_size": 2, "states": 2},
            "supernet": {"dims": [8, 16]},
            "derived": {"dims": [16, 24]},
        }
    },
}
SPACES = {
    content["name"]: validate(content, SearchSpace, source="space") for content in (TINY_SPACE, VMAMBA_SPACE)
}


def search_task(**options) -> SearchTask:
    settings = {"space": "tiny-test", "task": "segment", "data": SHAPES, "k": 2, "epochs": 2, "batch_size": 8}
    settings |= {"alphas": {"warmup_epochs": 0, "lr": 0.1}}
    config = search_config(**(settings | options))
    data = load_masks(SHAPES, image_size=SIZE)
    return SearchTask(config, SPACES["tiny-test"], data, make_accelerator("cpu", "no"))


def drive(task: SearchTask, **options) -> list[engine.Event]:
    return list(engine.drive(task, seed=task.config.seed, **options))


@pytest.mark.parametrize("strategy", ["localmamba", "darts", "spos"])
def test_a_search_resumed_in_the_middle_of_an_epoch_ends_bit_identical(strategy: str) -> None:
    whole = search_task(strategy=strategy)
    saved = [event for event in drive(whole) if isinstance(event, engine.CheckpointReady)]
    resumed = search_task(strategy=strategy)
    drive(resumed, resume=(saved[0].tensors, json.loads(json.dumps(saved[0].state))))
    for name, tensor in whole.tensors().items():
        assert torch.equal(resumed.tensors()[name], tensor), name


def test_alphas_and_decoder_learn_and_gates_change_what_is_scored() -> None:
    task = search_task(epochs=1)
    before = {name: value.clone() for name, value in task.supernet.state_dict().items()}
    (epoch,) = [event for event in drive(task) if isinstance(event, engine.EpochDone)]
    assert {"validation_loss", "validation_accuracy", "validation_miou", "probabilities"} <= set(
        epoch.metrics
    )
    moved = {
        name for name, value in task.supernet.state_dict().items() if not torch.equal(before[name], value)
    }
    assert {name for name in before if name.endswith("alpha")} <= moved
    assert {name for name in before if name.startswith("decoder.") and "num_batches" not in name} <= moved
    losses = {task.validation_loss(task.subnetwork([[name], [name]])) for name in ("h", "v", "w2")}
    assert len(losses) == 3


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("size", [(16, 16), (15, 21)])
def test_costs_are_those_of_the_models_that_will_be_trained(name: str, size: tuple[int, int]) -> None:
    space, kind, head = SPACES[name], find_task("segment"), SegmentationHead()
    costs = task_costs(space, None, task="segment", head=head, image_size=size, classes=4, in_chans=3)
    assert tuple(costs.image_size) == size
    for layers in ([["h"], ["v"]], [["h", "w2"], ["v_flip"]], [["h", "v", "w2", "v_flip"]] * 2):
        genotype = Genotype.of_space(space, layers)
        arguments = kind.arguments(genotype.family, genotype.model, 4) | {"in_chans": 3, "img_size": size}
        backbone = genotype.build(**arguments)
        model = kind.whole(backbone, kind.decoder(backbone, 4, head))
        found = costs.of(genotype.layers)
        assert found["params"] == sum(p.numel() for p in model.parameters())
        assert found["flops"] == network_flops(model, *size)


def test_equal_scans_are_told_at_the_size_of_whole_patches() -> None:
    """A strip of 3 pixels is two rows of patches of 2 once it is padded, and rows and columns are two scans."""
    config = search_config(
        space="tiny-vmamba", task="segment", data="shapes:16x16:8", k=1, batch_size=8, image_size=(3, 16)
    )
    task = assemble_search(config, SPACES["tiny-vmamba"], merge=True)
    assert task.supernet.backbone.mixer_grids(4, 16)[0] == (2, 8)
    assert {"h", "v"} <= set(task.space.layer_candidates(None)[0])


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A search by the command line, and its space."""
    folder = tmp_path_factory.mktemp("segment-search")
    (folder / "space.yaml").write_text(dump_yaml(TINY_SPACE))
    return folder


def test_a_genotype_of_masks_is_found_and_trained(finished: Path, tmp_path: Path, capsys) -> None:
    run, trained = finished / "run", tmp_path / "trained"
    short = ["--epochs", "1", "--batch-size", "4", "--device", "cpu", "--quiet"]
    options = ["--task", "segment", "--data", SHAPES, "--image-size", "16"]
    code, out, err = call(
        capsys,
        "run",
        "--space",
        str(finished / "space.yaml"),
        "--k",
        "2",
        *options,
        *short,
        "--out",
        str(run),
    )
    assert code == 0, err
    assert "% test mIoU" in out
    assert f"scansearch train {run} --task segment" in out
    assert "test mIoU" in (run / "summary.md").read_text()
    result = json.loads((run / "result.json").read_text())
    assert 0 <= result["test"]["miou"] <= 100
    code, _, err = call(capsys, "train", str(run), "--task", "segment", *short, "--out", str(trained))
    assert code == 0, err
    training = json.loads((trained / "result.json").read_text())
    assert (training["params"], training["flops"]) == (result["params"], result["flops"]), "costs were exact"
    assert Run.open(trained).genotype.layers == Run.open(run).genotype.layers
    code, out, err = call(
        capsys,
        "derive",
        str(run),
        "--k",
        "1",
        "--max-flops",
        str(result["flops"] - 1),
        "--out",
        str(tmp_path / "one.yaml"),
    )
    assert code == 0, err
    code, _, err = call(capsys, "rank", str(run), "--samples", "3")
    assert code == 2
    assert "is of segment" in err
    code, _, err = call(capsys, "train", str(run), *short, "--out", str(tmp_path / "no"))
    assert code == 2
    assert "data of task segment" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"verify": 2}, "verify trains classifiers"),
        ({"task": "classify", "head": {}}, "head goes with the tasks segment and detect"),
        ({"task": "count"}, "task"),
        ({"weights": 3}, "weights"),
    ],
)
def test_options_that_do_not_go_with_a_task_are_refused(options, message: str) -> None:
    with pytest.raises(InputError, match=message):
        search_task(**options)


def test_a_classifier_s_search_is_configured_as_before() -> None:
    assert search_config(space="vim8").weights.label_smoothing == 0.1
    assert search_task().config.weights.label_smoothing == 0.0
    assert search_task(weights={"label_smoothing": 0.2}).config.weights.label_smoothing == 0.2
