"""Detection models: any size of image, the paper's parameters, losses that can be repeated, files without content."""

from __future__ import annotations

import pytest
import torch
from support.detections import SIZE

from scansearch.costing.decoders import network_flops, released_dense_flops
from scansearch.data.instances.sources import load_objects
from scansearch.data.instances.targets import ImageObjects, ObjectBatch
from scansearch.models.build import build_model
from scansearch.models.dense import feature_arguments
from scansearch.models.detection import LOSSES, DetectionModel, make_detector
from scansearch.records.lookup import published_genotype

LAYERS = [["h", "w2"], ["v", "v_flip"]]
SIZES: dict[str, dict] = {
    "local_vim": {"embed_dim": 8, "patch_size": 4, "states": 2, "img_size": 32},
    "local_vmamba": {"dims": (8, 16), "depths": (1, 1), "patch_size": 4, "states": 2},
}


def model(family: str, classes: int = 3) -> DetectionModel:
    arguments = SIZES[family]
    torch.manual_seed(0)
    body = build_model(family, LAYERS, num_classes=0, **feature_arguments(family, arguments), **arguments)
    return DetectionModel(body, make_detector(body, classes, heads="small"))


def drawn(count: int, size: tuple[int, int] = SIZE) -> tuple[torch.Tensor, ObjectBatch]:
    data = load_objects("shapes:40x30:8", image_size=size)
    images, objects = zip(*(data.test.read(index) for index in range(count)), strict=True)
    return torch.stack(images), ObjectBatch(objects)


def nothing(size: tuple[int, int]) -> ImageObjects:
    return ImageObjects(
        torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, *size, dtype=torch.uint8),
        size, size, 1, (1, 2, 3),
    )  # fmt: skip


@pytest.mark.parametrize("family", SIZES)
@pytest.mark.parametrize("size", [(32, 32), (97, 131), (9, 40)])
def test_objects_of_any_image_lie_on_it_and_every_weight_gets_a_gradient(family: str, size) -> None:
    network = model(family)
    images, objects = drawn(1, size)
    losses = network(images, objects)
    assert losses.shape == (len(LOSSES),)
    losses.sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    (found,) = network.eval()(images)
    count = len(found["scores"])
    assert found["masks"].shape == (count, 1, 28, 28)
    assert set(found["labels"].tolist()) <= {0, 1, 2}
    assert (found["boxes"] >= 0).all()
    assert (found["boxes"] <= torch.tensor([size[1], size[0]] * 2)).all()


def test_an_image_without_objects_has_losses_too() -> None:
    network = model("local_vim")
    losses = network(torch.randn(1, 3, *SIZE), ObjectBatch([nothing(SIZE)]))
    assert losses.isfinite().all()
    assert float(losses.detach()[LOSSES.index("loss_mask")]) == 0.0
    losses.sum().backward()
    _, each = network.eval()(torch.randn(1, 3, *SIZE), ObjectBatch([nothing(SIZE)]))
    assert each.isfinite().all()


def test_losses_of_scored_images_depend_on_nothing_but_the_image() -> None:
    network = model("local_vmamba").eval()
    images, objects = drawn(3)
    with torch.no_grad():
        torch.manual_seed(1)
        found, together = network(images, objects)
        torch.manual_seed(2)
        alone = torch.cat([network(images[i : i + 1], objects.chunk(3)[i])[1] for i in range(3)])
    assert together.shape == (3, len(LOSSES))
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    assert len(found) == 3
    assert not network.decoder.rpn.training
    assert not network.decoder.roi_heads.training


def test_the_first_batch_does_not_decide_how_later_ones_are_seen() -> None:
    """torchvision guesses the strides of maps by the first images, of which here only a corner is no padding."""
    images, _ = drawn(2, (64, 64))
    corner = ObjectBatch([nothing((9, 9))])
    fresh, used = model("local_vmamba").eval(), model("local_vmamba").eval()
    with torch.no_grad():
        used(images[:1], corner)
        for one, other in zip(fresh(images), used(images), strict=True):
            assert torch.equal(one["boxes"], other["boxes"])
    assert used.decoder.roi_heads.box_roi_pool.scales == [1 / 4, 1 / 8]


def test_anchors_stand_where_their_cells_do_also_on_odd_sizes() -> None:
    network = model("local_vmamba").eval()
    seen = []
    network.decoder.rpn.anchor_generator.register_forward_hook(lambda module, args, out: seen.append(out[0]))
    with torch.no_grad():
        network(torch.zeros(1, 3, 97, 131))
    centres = (seen[0][:, :2] + seen[0][:, 2:]) / 2
    grids = [(4, 25, 33), (8, 13, 17), (16, 7, 9)]
    assert len(centres) == 3 * sum(rows * columns for _, rows, columns in grids)
    start = 0
    for stride, rows, columns in grids:
        level = centres[start : start + 3 * rows * columns : 3]
        start += 3 * rows * columns
        assert level[:, 0].unique().tolist() == [stride * column for column in range(columns)]
        assert level[:, 1].unique().tolist() == [stride * row for row in range(rows)]


def test_the_paper_s_model_has_its_parameters_and_flops() -> None:
    genotype = published_genotype("localvmamba_tiny")
    with torch.device("meta"):
        body = genotype.build(num_classes=0, **feature_arguments(genotype.family, genotype.model))
        network = DetectionModel(body, make_detector(body, 80))
    assert sum(p.numel() for p in network.parameters()) == 45_037_765  # the paper: 45 M
    giga = released_dense_flops(body, network.decoder, 1280, 800) / 1e9
    assert giga == pytest.approx(291, rel=0.005)  # the paper's, at 1280 x 800, where a multiply-add is one
    assert network_flops(network, 1280, 800) / 1e9 == pytest.approx(532.76, abs=0.01)
