"""Segmentation models: any size of image, names of Hugging Face, the paper's numbers of parameters, gates."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from scansearch.costing.decoders import decoder_flops, network_flops
from scansearch.costing.flops import full_flops, released_flops
from scansearch.errors import InputError
from scansearch.models.backbone import ScanBackbone
from scansearch.models.build import build_model
from scansearch.models.dense import feature_arguments, feature_maps
from scansearch.models.merge import LayerGates
from scansearch.models.segmentation import SegmentationModel, make_decoder
from scansearch.models.upernet import ConvUnit, groups_of
from scansearch.records.lookup import published_genotype

LAYERS = [["h", "w2"], ["v", "v_flip"]]
SIZES: dict[str, dict] = {
    "local_vim": {"embed_dim": 8, "patch_size": 8, "states": 2, "img_size": 32},
    "local_vmamba": {"dims": (8, 16), "depths": (1, 1), "patch_size": 4, "states": 2},
}


def backbone(family: str, **options) -> ScanBackbone:
    arguments = SIZES[family] | options
    torch.manual_seed(0)
    return build_model(family, LAYERS, num_classes=0, **feature_arguments(family, arguments), **arguments)


def model(family: str, **head) -> SegmentationModel:
    body = backbone(family)
    return SegmentationModel(body, make_decoder(body, 5, **head))


@pytest.mark.parametrize("family", SIZES)
@pytest.mark.parametrize("size", [(32, 32), (97, 131), (9, 40)])
def test_every_pixel_of_any_image_gets_logits_and_every_weight_a_gradient(family: str, size) -> None:
    network = model(family)
    image = torch.randn(1, 3, *size)
    logits, auxiliary = network(image)
    assert logits.shape == auxiliary.shape == (1, 5, *size)
    (logits.sin().sum() + auxiliary.sin().sum()).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    whole = network.eval()(image)
    assert isinstance(whole, Tensor)
    assert whole.shape == (1, 5, *size)
    assert whole.isfinite().all()


@pytest.mark.parametrize("family", SIZES)
def test_a_pixel_is_told_by_what_lies_under_it(family: str) -> None:
    """Logits change most around the pixels that changed, also far from the corner of an odd image."""
    network = model(family, dropout=0.0).eval()
    image = torch.zeros(1, 3, 61, 83)
    marked = image.clone()
    marked[..., 40:44, 64:68] = 3.0
    with torch.no_grad():
        change = (network(marked) - network(image)).abs().sum(1)[0]
    near, far = change[32:52, 56:76].mean(), change[:20, :20].mean()
    assert near > 2 * far
    patch = network.backbone.patch_size
    padded = torch.zeros(1, 3, 61 + -61 % patch, 83 + -83 % patch)
    padded[..., :61, :83] = marked
    with torch.no_grad():
        whole = network.decoder(feature_maps(network.backbone, padded), padded.shape[2:])
        assert torch.equal(network(marked), whole[..., :61, :83])


def test_images_alone_are_what_they_are_among_others() -> None:
    network = model("local_vim").eval()
    images = torch.randn(3, 3, 24, 40)
    with torch.no_grad():
        together = network(images)
        alone = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_parameters_are_called_as_hugging_face_calls_them() -> None:
    names = set(make_decoder(backbone("local_vmamba"), 5, norm="batch").state_dict())
    unit = ("conv.weight", "batch_norm.weight", "batch_norm.bias", "batch_norm.running_mean")
    expected = {
        "decode_head.classifier.weight",
        "decode_head.classifier.bias",
        "auxiliary_head.classifier.weight",
    }
    for place in (
        *(f"decode_head.psp_modules.{index}.1" for index in range(4)),
        "decode_head.bottleneck",
        "decode_head.lateral_convs.0",
        "decode_head.fpn_convs.0",
        "decode_head.fpn_bottleneck",
        "auxiliary_head.convs.0",
    ):
        expected |= {f"{place}.{part}" for part in unit}
    assert expected <= names
    rest = {name.rpartition(".")[2] for name in names - expected}
    assert rest == {"running_var", "num_batches_tracked", "bias"}  # the second classifier's bias


def test_the_paper_s_models_have_its_parameters_and_flops() -> None:
    genotype = published_genotype("localvmamba_tiny")
    with torch.device("meta"):
        body = genotype.build(
            num_classes=0, img_size=512, **feature_arguments(genotype.family, genotype.model)
        )
        network = SegmentationModel(body, make_decoder(body, 150))
    assert sum(p.numel() for p in network.parameters()) == 57_180_668  # the paper: 57 M
    giga = (released_flops(body, 512, 2048) + decoder_flops(body, network.decoder, 512, 2048) / 2) / 1e9
    assert giga == pytest.approx(970, rel=0.005)  # the paper's, at 512 x 2048, where a multiply-add is one
    assert network_flops(network, 512, 2048) / 1e9 == pytest.approx(1886.3, abs=0.1)


@pytest.mark.parametrize("family", SIZES)
def test_flops_are_those_that_torch_counts(family: str) -> None:
    network = model(family).eval()
    height, width = 37, 50
    patch = network.backbone.patch_size
    padded = (height + -height % patch, width + -width % patch)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.decoder(feature_maps(network.backbone, torch.zeros(1, 3, *padded)), padded)
    with torch.no_grad(), FlopCounterMode(display=False) as maps:
        feature_maps(network.backbone, torch.zeros(1, 3, *padded))
    assert decoder_flops(network.backbone, network.decoder, *padded) == (
        counter.get_total_flops() - maps.get_total_flops()
    )
    assert network_flops(network, height, width) - full_flops(network.backbone, *padded) == (
        decoder_flops(network.backbone, network.decoder, *padded)
    )


@pytest.mark.parametrize("family", SIZES)
def test_gates_reach_the_feature_maps(family: str) -> None:
    supernet = backbone(family, weighted=True).eval()
    image = torch.randn(1, 3, 32, 32)
    gates = [LayerGates(torch.tensor([0.25, 0.75]), (0, 1)) for _ in LAYERS]
    chosen = [LayerGates(torch.tensor([1.0]), (1,)) for _ in LAYERS]
    with torch.no_grad():
        softmax = feature_maps(supernet, image)
        for mixer in supernet.mixers:
            mixer.alpha.copy_(torch.tensor([0.25, 0.75]).log())
        told = feature_maps(supernet, image)
        given = feature_maps(supernet, image, gates)
        alone = feature_maps(supernet, image, chosen)
    torch.testing.assert_close(given, told)
    assert not torch.equal(softmax[-1], given[-1])
    assert not torch.equal(alone[-1], given[-1])
    with pytest.raises(InputError, match="gates for 1 layers given"):
        feature_maps(supernet, image, gates[:1])
    with pytest.raises(InputError, match="gates need a supernet"):
        feature_maps(backbone(family), image, gates)


@pytest.mark.parametrize(("channels", "groups"), [(2, 1), (12, 1), (32, 4), (96, 12), (256, 32), (512, 32)])
def test_groups_never_erase_a_map_of_one_pixel(channels: int, groups: int) -> None:
    assert groups_of(channels) == groups
    assert channels % groups == 0
    torch.manual_seed(0)
    unit = ConvUnit(channels, channels, 1, "group")
    assert unit(torch.randn(1, channels, 1, 1)).sum() > 0


@pytest.mark.parametrize("classes", [1, 256])
def test_masks_hold_two_to_255_classes(classes: int) -> None:
    with pytest.raises(InputError, match="2 to 255"):
        make_decoder(backbone("local_vim"), classes)
