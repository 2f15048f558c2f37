"""Every registered model behaves as timm expects of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import group_parameters
from timm.optim import param_groups_weight_decay

import scansearch.models
from scansearch.models import localmamba
from scansearch.models.published import CANDIDATES, PUBLISHED

NAMES = pytest.mark.parametrize("name", PUBLISHED)


def small(name: str, **kwargs: Any) -> torch.nn.Module:
    """The registered model, narrowed so that tests are quick; depth and directions stay."""
    sizes: dict[str, Any] = {"dims": (8, 16, 24, 32), "states": 2}
    if PUBLISHED[name].family == "local_vim":
        sizes = {"embed_dim": 16, "states": 2, "img_size": 64}
    return timm.create_model(name, **(sizes | kwargs))


@NAMES
def test_trains_one_step_at_full_width(name: str) -> None:
    model = timm.create_model(name, num_classes=5, img_size=96, drop_path_rate=0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    logits = model(torch.randn(2, 3, 96, 96))
    assert logits.shape == (2, 5)
    torch.nn.functional.cross_entropy(logits, torch.tensor([1, 3])).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    optimizer.step()
    assert not torch.equal(model.head.weight, before["head.weight"])


@NAMES
def test_parameter_count_is_the_published_one(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED[name].parameters
    assert model.directions == PUBLISHED[name].layers


def test_published_lists_use_each_direction_as_often_as_the_released_ones() -> None:
    counts = {
        "localvim_tiny": [14, 14, 16, 15, 6, 6, 7, 2],
        "localvmamba_tiny": [6, 11, 5, 11, 5, 8, 6, 8],
        "localvmamba_small": [20, 18, 26, 25, 6, 7, 17, 13],
    }
    for name, wanted in counts.items():
        layers = PUBLISHED[name].layers
        assert [sum(direction in names for names in layers) for direction in CANDIDATES] == wanted
        assert all(len(names) == 4 and list(names) == sorted(names, key=CANDIDATES.index) for names in layers)


@NAMES
def test_default_cfg_names_the_first_conv_and_the_classifier(name: str) -> None:
    model = small(name)
    state, cfg = model.state_dict(), model.default_cfg
    assert f"{cfg['classifier']}.weight" in state
    assert f"{cfg['first_conv']}.weight" in state
    assert cfg["num_classes"] == model.num_classes == 1000
    assert cfg["architecture"] == name
    data = timm.data.resolve_model_data_config(model)
    assert data["input_size"] == (3, 224, 224)
    assert data["crop_pct"] == 0.875


@NAMES
def test_classifier_can_be_replaced_and_removed(name: str) -> None:
    model, image = small(name, num_classes=7), torch.randn(2, 3, 64, 64)
    assert model.get_classifier().out_features == 7
    assert model(image).shape == (2, 7)
    model.reset_classifier(4)
    assert model(image).shape == (2, 4)
    features = model.forward_features(image)
    assert model.forward_head(features).shape == (2, 4)
    assert model.forward_head(features, pre_logits=True).shape == (2, model.num_features)
    model.reset_classifier(0)
    assert model(image).shape == (2, model.num_features)
    model.reset_classifier(0, "")
    assert model(image).shape == features.shape
    assert small(name, num_classes=0)(image).shape == (2, model.num_features)


@NAMES
def test_input_channels_are_an_argument(name: str) -> None:
    assert small(name, in_chans=1, num_classes=2)(torch.randn(1, 1, 64, 64)).shape == (1, 2)


@NAMES
def test_feature_maps_have_the_channels_and_strides_that_feature_info_says(name: str) -> None:
    model = small(name, features_only=True)
    image = torch.randn(2, 3, 96, 64)
    maps = model(image)
    info = model.feature_info
    assert len(maps) == len(info.channels()) == 4
    for found, channels, stride in zip(maps, info.channels(), info.reduction(), strict=True):
        assert found.shape == (2, channels, 96 // stride, 64 // stride)
    sum(found.square().mean() for found in maps).backward()
    norms = [p for key, p in model.named_parameters() if "feature_norms" in key]
    assert len(norms) == 8
    assert all(p.grad is not None for p in norms)
    assert not any("head." in key for key in model.state_dict())


@NAMES
def test_intermediates_agree_with_the_forward_pass(name: str) -> None:
    model, image = small(name).eval(), torch.randn(1, 3, 64, 64)
    final, maps = model.forward_intermediates(image)
    assert len(maps) == len(model.feature_info)
    torch.testing.assert_close(final, model.forward_features(image))
    torch.testing.assert_close(model.forward_head(final), model(image))
    for index in (0, 2):
        (alone,) = model.forward_intermediates(image, [index], intermediates_only=True, stop_early=True)
        torch.testing.assert_close(alone, maps[index])
    last = model.forward_intermediates(image, 1, norm=True, intermediates_only=True)[0].flatten(2)
    tokens = final.flatten(1, -2)
    if tokens.shape[1] > last.shape[2]:  # the class token is no part of a map
        middle = tokens.shape[1] // 2
        tokens = torch.cat([tokens[:, :middle], tokens[:, middle + 1 :]], dim=1)
    torch.testing.assert_close(last.transpose(1, 2), tokens)
    with pytest.raises(ValueError, match="feature indices"):
        model.forward_intermediates(image, [99])
    with pytest.raises(ValueError, match="output_fmt"):
        model.forward_intermediates(image, output_fmt="CHW")


@NAMES
def test_pruning_keeps_what_the_features_need(name: str) -> None:
    image = torch.randn(1, 3, 64, 64)
    model = small(name).eval()
    wanted = model.forward_intermediates(image, [0, 2], intermediates_only=True)
    parameters = sum(p.numel() for p in model.parameters())
    assert model.prune_intermediate_layers([0, 2], prune_norm=True) == [0, 2]
    assert sum(p.numel() for p in model.parameters()) < parameters
    for one, other in zip(
        model.forward_intermediates(image, [0, 2], intermediates_only=True), wanted, strict=True
    ):
        torch.testing.assert_close(one, other)
    model.reset_classifier(3, "avg")
    assert model(image).shape == (1, 3)


@NAMES
def test_parameter_groups_cover_every_parameter(name: str) -> None:
    model = small(name)
    groups = group_parameters(model, model.group_matcher())
    assert sorted(key for group in groups.values() for key in group) == sorted(
        key for key, _ in model.named_parameters()
    )
    assert len(groups) >= len(PUBLISHED[name].layers)
    coarse = group_parameters(model, model.group_matcher(coarse=True))
    assert sum(map(len, coarse.values())) == len(list(model.parameters()))
    undecayed = param_groups_weight_decay(model, 0.05, no_weight_decay_list=model.no_weight_decay())[0][
        "params"
    ]
    kept = {id(p) for p in undecayed}
    assert all(id(mixer.A_log) in kept and id(mixer.dt_bias) in kept for mixer in model.mixers)


def test_the_pyramid_gives_local_vim_four_strides() -> None:
    model = small("localvim_tiny", pyramid=True, features_only=True)
    assert model.feature_info.reduction() == [4, 8, 16, 32]
    maps = model(torch.randn(1, 3, 96, 64))
    assert [tuple(found.shape) for found in maps] == [
        (1, 4, 24, 16),
        (1, 8, 12, 8),
        (1, 16, 6, 4),
        (1, 16, 3, 2),
    ]
    sum(found.square().mean() for found in maps).backward()
    assert all(p.grad is not None for key, p in model.named_parameters() if "pyramid" in key)


def test_features_of_a_model_with_fewer_stages_are_all_of_them() -> None:
    layers = [("h",), ("v", "w2"), ("h",)]
    model = timm.create_model(
        "local_vmamba", directions=layers, dims=(8, 16), depths=(1, 2), patch_size=2, features_only=True
    )
    assert [tuple(found.shape) for found in model(torch.randn(1, 3, 24, 16))] == [
        (1, 8, 12, 8),
        (1, 16, 6, 4),
    ]


def test_released_features_leave_the_residual_stream_out() -> None:
    ours, image = small("localvim_tiny").eval(), torch.randn(1, 3, 64, 64)
    released = small("localvim_tiny", features="released").eval()
    released.load_state_dict(ours.state_dict())
    seen: list[torch.Tensor] = []
    released.layers[5].register_forward_hook(lambda _m, _i, output: seen.extend(output))
    (found,) = released.forward_intermediates(image, [5], intermediates_only=True, output_fmt="NLC")
    torch.testing.assert_close(found, torch.nn.functional.layer_norm(seen[0], (16,), eps=1e-5))
    (found,) = ours.forward_intermediates(image, [5], intermediates_only=True, output_fmt="NLC")
    torch.testing.assert_close(found, torch.nn.functional.layer_norm(seen[0] + seen[1], (16,), eps=1e-5))


@pytest.mark.smoke
def test_a_genotype_replaces_the_directions_and_the_depth_but_not_the_family() -> None:
    class Made:
        family = "local_vim"
        layers = (("h", "w3"),) * 3

    assert small("localvim_tiny", genotype=Made()).directions == Made.layers
    assert small("vim_tiny", genotype=Made()).directions == Made.layers
    assert small("localvmamba_tiny", genotype=[["v"]] * 15).directions == (("v",),) * 15
    assert small("localvmamba_tiny", genotype=[["v"]] * 5, depths=(1, 1, 2, 1)).depths == (1, 1, 2, 1)
    with pytest.raises(ValueError, match="family 'local_vim'"):
        small("localvmamba_tiny", genotype=Made())
    with pytest.raises(ValueError, match="give depths= of 4 stages"):
        small("localvmamba_tiny", genotype=[["v"]] * 5)
    with pytest.raises(ValueError, match="no argument 'widht'"):
        small("localvim_tiny", widht=3)


@pytest.mark.parametrize("name", ["localvim", "local_vim", "localvmamba", "local_vmamba"])
def test_a_familys_name_takes_a_genotype_with_its_sizes(name: str, tmp_path: Path) -> None:
    from scansearch.records.genotype import Genotype

    family = localmamba.FAMILY_NAMES[name]
    sizes: dict[str, Any] = {"embed_dim": 8, "patch_size": 4, "img_size": 16, "states": 1}
    if family == "local_vmamba":
        sizes = {"dims": [8, 16], "depths": [1, 1], "patch_size": 2, "states": 1}
    layers = (("h", "w2"), ("v",))
    Genotype(family=family, layers=layers, model=sizes).save(tmp_path / "genotype.yaml")
    model = timm.create_model(name, genotype=str(tmp_path / "genotype.yaml"), num_classes=3)
    assert model.directions == layers
    assert model(torch.randn(1, 3, 16, 16)).shape == (1, 3)
    with pytest.raises(ValueError, match="needs directions"):
        timm.create_model(name)


def test_a_genotype_may_be_the_path_of_its_file(tmp_path: Any) -> None:
    from scansearch.records.genotype import Genotype

    genotype = Genotype(family="local_vim", layers=(("h", "w2"),) * 20)
    genotype.save(tmp_path / "genotype.yaml")
    model = small("localvim_tiny", genotype=str(tmp_path / "genotype.yaml"))
    assert model.directions == genotype.layers


def test_a_taken_name_is_refused() -> None:
    with pytest.raises(ValueError, match="already registered"):
        localmamba.register_name("localvim_tiny", localmamba.published_model, "")
    assert set(PUBLISHED) <= set(timm.list_models())
    assert scansearch.models.LayerGates


def test_entry_points_are_importable_from_their_module() -> None:
    """timm and pickle look an entry point up by module and name."""
    for name in PUBLISHED:
        assert getattr(localmamba, name) is timm.model_entrypoint(name)
    pyramids = {name + localmamba.PYRAMID for name in localmamba.PLAIN}
    assert set(timm.list_models(module="localmamba")) == {*PUBLISHED, *localmamba.FAMILY_NAMES, *pyramids}
