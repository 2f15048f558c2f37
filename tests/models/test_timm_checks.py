"""What timm checks of its own vision transformers, over every name that we register.

Left out, with reasons: TorchScript (deprecated by torch; the scan is no script), ``feature_cls`` "dict" (the layers
are no chain that timm could run by itself), and for LocalVim "hook" and "fx" (a layer passes on two streams).
"""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from timm.models._features import FeatureGetterNet
from timm.models._features_fx import get_graph_node_names
from timm.optim import create_optimizer_v2

from scansearch.models import localmamba
from scansearch.models.published import PUBLISHED

NAMES = sorted(
    {*PUBLISHED, *localmamba.FAMILY_NAMES, *(name + localmamba.PYRAMID for name in localmamba.PLAIN)}
)
EVERY = pytest.mark.parametrize("name", NAMES)


def family(name: str) -> str:
    published = PUBLISHED.get(name.removesuffix(localmamba.PYRAMID))
    return localmamba.FAMILY_NAMES[name] if published is None else published.family


def small(name: str, **kwargs: Any) -> torch.nn.Module:
    """The model ``name``, narrow and shallow."""
    sizes: dict[str, Any] = {"states": 1, "num_classes": 5}
    if family(name) == "local_vim":
        sizes |= {"embed_dim": 8, "img_size": 64}
    else:
        sizes |= {"dims": (8, 8, 16, 16), "depths": (1, 1, 1, 1)}
    layers = [["h", "w2"], ["v"], ["h_flip"], ["w3"]]
    sizes["directions" if name in localmamba.FAMILY_NAMES else "genotype"] = layers
    return timm.create_model(name, **(sizes | kwargs))


@EVERY
def test_forward_backward_and_classifier(name: str) -> None:
    model, x = small(name), torch.randn(2, 3, 64, 64)
    logits = model(x)
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()
    logits.mean().backward()
    unused = ("pyramid.",)
    assert all(p.grad is not None for key, p in model.named_parameters() if not key.startswith(unused))
    tokens = model.forward_features(x)
    assert model.forward_head(tokens, pre_logits=True).shape == (2, model.num_features)
    model.reset_classifier(0)
    assert model(x).shape == (2, model.num_features)
    model.reset_classifier(0, "")
    assert model(x).shape == tokens.shape
    cfg = model.default_cfg
    assert {"classifier", "first_conv", "input_size", "mean", "std"} <= set(cfg)
    if family(name) == "local_vmamba":
        assert cfg["pool_size"] == (7, 7)


@EVERY
def test_symbolic_trace_forward_and_backward(name: str) -> None:
    model, x = small(name).eval(), torch.randn(1, 3, 64, 64)
    assert get_graph_node_names(model)[0]
    graph = torch.fx.symbolic_trace(model)
    logits = graph(x)
    torch.testing.assert_close(logits, model(x))
    logits.mean().backward()
    assert model.patch_embed.proj.weight.grad is not None


@EVERY
def test_every_way_to_feature_maps(name: str) -> None:
    x = torch.randn(1, 3, 64, 64)
    for kind in ("getter", "list", "hook", "fx", "dict"):
        allowed = ("getter", "list") if family(name) == "local_vim" else ("getter", "list", "hook", "fx")
        if kind not in allowed:
            with pytest.raises(ValueError, match="feature_cls"):
                small(name, features_only=True, feature_cls=kind)
            continue
        model = small(name, features_only=True, feature_cls=kind).eval()
        maps = model(x)
        assert len(maps) == len(model.feature_info.channels()) == 4
        axis = -1 if kind in ("hook", "fx") else 1
        for level, channels, stride in zip(
            maps, model.feature_info.channels(), model.feature_info.reduction(), strict=True
        ):
            assert level.shape[axis] == channels
            assert level.shape[1 if axis == -1 else 2] == 64 // stride
    assert isinstance(small(name, features_only=True), FeatureGetterNet)


@pytest.mark.parametrize("name", ["localvim_tiny", "localvmamba_tiny"])
def test_sizes_devices_types_and_pooling(name: str) -> None:
    x = torch.randn(1, 3, 96, 64)
    # With "tables" the model then has a rotation of its own for the size, instead of a resampled one.
    model = small(name, **({"rope_resize": "angles"} if family(name) == "local_vim" else {})).eval()
    before = model(x)
    model.set_input_size((96, 64))
    torch.testing.assert_close(model(x), before)
    with pytest.raises(ValueError, match="patch_size 3"):
        model.set_input_size(patch_size=3)
    assert next(small(name, device="meta").parameters()).is_meta
    assert next(small(name, dtype=torch.bfloat16).parameters()).dtype == torch.bfloat16
    tokens = model.forward_features(x).flatten(1, -2)
    for kind, expected in {
        "avg": tokens.mean(1), "max": tokens.amax(1), "avgmax": (tokens.mean(1) + tokens.amax(1)) / 2
    }.items():  # fmt: skip
        model.reset_classifier(0, kind)
        torch.testing.assert_close(model(x), expected)


def test_intermediates_as_a_dict_with_their_class_token() -> None:
    x = torch.randn(2, 3, 64, 64)
    model = small("localvim", class_token="middle").eval()
    result = model.forward_intermediates(x, output_dict=True, return_prefix_tokens=True, norm=True)
    assert set(result) == {"image_intermediates", "image_intermediates_prefix", "image_features"}
    assert [tuple(prefix.shape) for prefix in result["image_intermediates_prefix"]] == [(2, 1, 8)] * 4
    final = result["image_features"]
    torch.testing.assert_close(result["image_intermediates_prefix"][-1][:, 0], final[:, final.shape[1] // 2])
    with pytest.raises(ValueError, match="attn_mask"):
        model.forward_intermediates(x, attn_mask=torch.ones(1))
    for plain in (small("localvim"), small("localvmamba")):
        with pytest.raises(ValueError, match="return_prefix_tokens"):
            plain.forward_intermediates(x, return_prefix_tokens=True)


@pytest.mark.parametrize("token", ["none", "middle"])
@pytest.mark.parametrize("name", ["localvim_tiny", "localvmamba_tiny"])
def test_weights_of_another_size_channels_and_classes_load_through_timm(
    name: str, token: str, tmp_path: Any
) -> None:
    plain = family(name) == "local_vim"
    if token == "middle" and not plain:
        pytest.skip("LocalVMamba has no class token")
    extra = {"class_token": token} if plain else {}
    source = small(name, num_classes=1000, **extra, **({"img_size": 224} if plain else {}))
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    model = small(
        name, num_classes=4, in_chans=1, pretrained=True, **extra,
        pretrained_cfg_overlay={"file": str(tmp_path / "weights.pth")},
    )  # fmt: skip
    assert model(torch.randn(1, 1, 64, 64)).shape == (1, 4)
    weight = source.patch_embed.proj.weight.sum(1, keepdim=True)
    torch.testing.assert_close(model.patch_embed.proj.weight, weight)
    assert torch.equal(model.norm.weight, source.norm.weight)
    if plain:
        source.set_input_size(64)
        torch.testing.assert_close(model.pos_embed, source.pos_embed)


@pytest.mark.parametrize("name", ["localvim_tiny", "localvmamba_tiny"])
def test_timms_optimizers_with_layer_decay(name: str) -> None:
    model = small(name)
    optimizer = create_optimizer_v2(model, opt="adamw", weight_decay=0.05, layer_decay=0.75)
    scales = {group["lr_scale"] for group in optimizer.param_groups}
    assert len(scales) > 4
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))
