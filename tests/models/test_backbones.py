"""What both backbones promise: any grid, gates, switches, clear errors, transposition, drop path."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from scansearch.directions import parse_direction
from scansearch.models import LayerGates, LocalVim, LocalVMamba, build_model, mixers
from scansearch.models.backbone import ScanBackbone
from scansearch.models.decay import decayed, weight_decay_groups
from scansearch.models.orders import order_table
from scansearch.models.rope import grid_rope, rope_tables, rotate

ALL = ("h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w7", "w7_flip")


def vim(directions: Any = (ALL, ("h", "w2")), **kwargs: Any) -> LocalVim:
    sizes = {"img_size": 12, "patch_size": 4, "embed_dim": 16, "states": 4, "num_classes": 3, "in_chans": 2}
    return LocalVim(directions, **(sizes | kwargs))


def vmamba(directions: Any = (ALL, ("h", "w2"), ("v",)), **kwargs: Any) -> LocalVMamba:
    sizes = {"dims": (8, 16), "depths": (1, 2), "img_size": 12, "patch_size": 2, "states": 4}
    return LocalVMamba(directions, **(sizes | {"num_classes": 3, "in_chans": 2} | kwargs))


FAMILIES = pytest.mark.parametrize("make", [vim, vmamba], ids=["local_vim", "local_vmamba"])


@FAMILIES
@pytest.mark.parametrize("size", [(12, 12), (8, 20), (20, 8), (13, 9), (4, 4), (31, 5)])
@pytest.mark.parametrize("padding", ["zero", "skip"])
def test_any_image_size_and_aspect_ratio_works(make: Any, size: tuple[int, int], padding: str) -> None:
    model = make(window_padding=padding)
    image = torch.randn(2, 2, *size)
    logits = model(image)
    assert logits.shape == (2, 3)
    assert logits.isfinite().all()
    logits.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("class_token", ["none", "middle"])
@pytest.mark.parametrize("rope", [False, True])
@pytest.mark.parametrize("resize", ["angles", "tables"])
def test_position_information_is_interpolated_only_on_other_grids(
    class_token: str, rope: bool, resize: str
) -> None:
    model = vim(class_token=class_token, rope=rope, rope_resize=resize, img_size=(12, 20))
    seen: list[Tensor] = []
    model.pos_drop.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    nn.init.zeros_(model.patch_embed.proj.weight)
    nn.init.zeros_(model.patch_embed.proj.bias)
    assert model(torch.randn(1, 2, 12, 20)).isfinite().all()
    torch.testing.assert_close(seen[0], model.pos_embed)
    assert model(torch.randn(1, 2, 24, 12)).isfinite().all()
    assert seen[1].shape[1] == 18 + (class_token == "middle")
    if class_token == "middle":
        torch.testing.assert_close(seen[1][:, 9], model.pos_embed[:, 7])


def test_rope_is_a_rotation_on_every_grid_unless_tables_are_resampled() -> None:
    where = {"device": torch.device("cpu"), "dtype": torch.float64}
    for grid in ((3, 3), (5, 2), (1, 1)):
        cos, sin = grid_rope(*grid, 16, resize="angles", trained=(3, 3), **where)
        torch.testing.assert_close(cos**2 + sin**2, torch.ones_like(cos), rtol=1e-6, atol=1e-6)
        x = torch.randn(2, grid[0] * grid[1], 16, dtype=torch.float64)
        torch.testing.assert_close(rotate(x, (cos, sin)).norm(dim=-1), x.norm(dim=-1), rtol=1e-6, atol=0)
    cos, sin = grid_rope(5, 2, 16, resize="tables", trained=(3, 3), **where)
    assert (cos**2 + sin**2 - 1).abs().max() > 0.01
    same = grid_rope(3, 3, 16, resize="tables", trained=(3, 3), **where)
    torch.testing.assert_close(same[0].float(), rope_tables(3, 3, 16)[0])


def transposed(names: tuple[str, ...]) -> tuple[str, ...]:
    swap = {"h": "v", "v": "h", "h_flip": "v_flip", "v_flip": "h_flip"}
    return tuple(swap[name] for name in names)


@pytest.mark.parametrize("size", [(8, 20), (12, 12), (20, 4)])
def test_transposing_image_and_directions_commutes(size: tuple[int, int]) -> None:
    """v is h of the transposed image; the released code breaks this on maps that are not square."""
    layers = (("h", "v_flip"), ("h_flip", "v", "h"))
    model = vim(layers, img_size=size, position_embedding=False, rope=False).double()
    other = vim([transposed(names) for names in layers], img_size=size, position_embedding=False, rope=False)
    other = other.double()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    state["patch_embed.proj.weight"] = state["patch_embed.proj.weight"].transpose(2, 3)
    other.load_state_dict(state)
    image = torch.randn(2, 2, *size, dtype=torch.float64)
    torch.testing.assert_close(other(image.transpose(2, 3)), model(image), rtol=1e-9, atol=1e-9)


def test_the_released_reverse_of_v_would_not_commute() -> None:
    """The released code undoes v as if the map were square; ours undoes the order itself."""
    height, width = 2, 3
    order = torch.from_numpy(parse_direction("v").order(height, width).copy()).long()
    tokens = torch.arange(height * width)
    scanned = tokens[order]
    released = scanned.reshape(height, width).T.flatten()
    ours = torch.empty_like(tokens).index_put((order,), scanned)
    assert ours.tolist() == tokens.tolist()
    assert released.tolist() == [0, 4, 3, 2, 1, 5]


@FAMILIES
def test_gates_of_every_layer_replace_the_softmax(make: Any) -> None:
    model = make(weighted=True).double()
    image = torch.randn(2, 2, 12, 12, dtype=torch.float64)
    gates = [
        LayerGates(torch.softmax(mixer.alpha, 0), tuple(range(len(mixer.directions))))
        for mixer in model.mixers
    ]
    torch.testing.assert_close(model(image, gates), model(image), rtol=1e-12, atol=1e-12)
    one = [LayerGates(torch.ones(1, dtype=torch.float64), (0,)) for _ in model.mixers]
    assert not torch.allclose(model(image, one), model(image))
    model.set_grad_checkpointing()
    torch.testing.assert_close(model(image, gates), model(image), rtol=1e-12, atol=1e-12)


@FAMILIES
def test_gates_that_do_not_fit_are_errors(make: Any) -> None:
    image = torch.randn(1, 2, 12, 12)
    gates = [LayerGates(torch.ones(1), (0,))]
    with pytest.raises(ValueError, match="weighted=True"):
        make()(image, gates)
    with pytest.raises(ValueError, match="gates for 1 layers"):
        make(weighted=True)(image, gates)


@FAMILIES
def test_gradient_checkpointing_changes_nothing_but_memory(make: Any) -> None:
    model = make().double()
    image = torch.randn(2, 2, 12, 12, dtype=torch.float64)
    grads = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        model(image).square().sum().backward()
        grads.append([p.grad.clone() for p in model.parameters()])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@FAMILIES
def test_parameters_are_never_aliased_and_the_constructor_runs_on_meta(make: Any) -> None:
    model = make(weighted=True)
    storages = [parameter.untyped_storage().data_ptr() for parameter in model.parameters()]
    assert len(set(storages)) == len(storages)
    with torch.device("meta"):
        meta = make(weighted=True)
    assert {n: p.shape for n, p in meta.named_parameters()} == {
        n: p.shape for n, p in model.named_parameters()
    }


@FAMILIES
def test_a_seed_gives_the_same_weights(make: Any) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(make().state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_drop_path_rates_rise_one_layer_late_in_local_vim_and_at_once_in_local_vmamba() -> None:
    def rates(model: nn.Module) -> list[float]:
        return [getattr(m, "drop_prob", 0.0) for n, m in model.named_modules() if n.endswith("drop_path")]

    assert rates(vim([("h",)] * 4, drop_path_rate=0.3)) == pytest.approx([0.0, 0.0, 0.1, 0.2, 0.3])
    assert rates(vmamba(drop_path_rate=0.4)) == pytest.approx([0.0, 0.2, 0.4])


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (vim, {"directions": ()}, "at least one layer"),
        (vim, {"directions": (("h", "q"),)}, "nearest valid name"),
        (vim, {"directions": (("h", "h"),)}, "twice"),
        (vim, {"img_size": 3}, "at least one patch"),
        (vim, {"embed_dim": 18}, "multiple of 4"),
        (vim, {"norm": "batch"}, "'rms' or 'layer'"),
        (vim, {"global_pool": "min"}, "global_pool"),
        (vim, {"global_pool": "token"}, "class_token"),
        (vim, {"class_token": "front"}, "'none' or 'middle'"),
        (vim, {"features": "all"}, "'residual' or 'released'"),
        (vim, {"rope_resize": "none"}, "'angles' or 'tables'"),
        (vim, {"drop_path_rate": 1.0}, "drop_path_rate"),
        (vim, {"num_classes": -1}, "num_classes"),
        (vim, {"pyramid": True, "feature_levels": (0,)}, "pyramid"),
        (vmamba, {"depths": (1, 1)}, "has 2 layers, not 3"),
        (vmamba, {"dims": (8,)}, "one size >= 1 for each stage"),
        (vmamba, {"img_size": 1}, "at least one patch"),
        (vmamba, {"global_pool": "token"}, "global_pool"),
        (vmamba, {"in_chans": 0}, "in_chans"),
        (vmamba, {"conv_width": 2}, "odd"),
    ],
)
def test_bad_sizes_and_switches_are_one_clear_line(
    make: Any, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        make(**arguments)
    assert "\n" not in str(error.value)


@FAMILIES
def test_images_of_a_wrong_shape_are_an_error(make: Any) -> None:
    for image in (torch.randn(1, 3, 12, 12), torch.randn(2, 12, 12)):
        with pytest.raises(ValueError, match="do not fit"):
            make()(image)


def test_build_model_names_unknown_families_and_arguments() -> None:
    with pytest.raises(ValueError, match="'local_vim' or 'local_vmamba'"):
        build_model("swin", [("h",)])
    with pytest.raises(ValueError, match="'depth'"):
        build_model("local_vim", [("h",)], depth=1)
    with pytest.raises(ValueError, match="has 15 layers, not 2"):
        build_model("local_vmamba", [("h",)] * 2)


@FAMILIES
def test_autocast_to_bfloat16_stays_close_and_trains(make: Any) -> None:
    model = make()
    image = torch.randn(2, 2, 12, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(image)
    logits.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    torch.testing.assert_close(logits.float(), model(image), rtol=0.1, atol=0.05)


def names(model: ScanBackbone, policy: Any, wanted: bool) -> set[str]:
    return {name.rpartition(".")[2] for name, decays in decayed(model, policy).items() if decays is wanted}


def test_weight_decay_groups_follow_the_named_policy() -> None:
    plain, stages = vim(weighted=True, class_token="middle", rope=False), vmamba(weighted=True)
    for model in (plain, stages):
        kept = names(model, "mamba", False)
        assert {"A_log", "D", "dt_bias", "bias", "alpha"} <= kept
        assert not {"x_proj_weight", "dt_weight"} & kept
        assert {"A_log", "alpha"} <= names(model, "released", True)
        assert {"D", "bias"} <= names(model, "released", False)
    assert {"conv_bias", "pos_embed", "cls_token"} <= names(plain, "mamba", False)
    assert {"dt_bias", "conv_bias", "pos_embed", "cls_token"} <= names(plain, "released", False)
    assert "dt_bias" in names(stages, "released", True)  # two axes in the released LocalVMamba
    with pytest.raises(ValueError, match="'mamba' or 'released'"):
        decayed(plain, "none")  # type: ignore[arg-type]

    alphas = [mixer.alpha for mixer in plain.mixers]
    groups = weight_decay_groups(plain, 0.05, exclude=alphas)
    assert [group["weight_decay"] for group in groups] == [0.05, 0.0]
    grouped = {id(p) for group in groups for p in group["params"]}
    assert grouped == {id(p) for p in plain.parameters()} - {id(p) for p in alphas}
    assert sum(len(group["params"]) for group in groups) == len(grouped)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from(["zero", "skip"]), st.data())
def test_the_class_token_is_one_more_index_in_the_middle(
    height: int, width: int, padding: Any, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from([*ALL, "w3", "w5_flip"]))
    plain, (length,) = order_table((name,), height, width, padding, False)
    table, (longer,) = order_table((name,), height, width, padding, True)
    middle = height * width // 2
    assert longer == length + 1
    assert table[0, middle] == middle
    rest = [int(i) - (i > middle) for i in table[0] if i != middle]
    assert rest == plain[0].tolist()


@pytest.mark.parametrize(
    ("family", "sizes"),
    [
        ("local_vim", {"patch_size": 4, "embed_dim": 8}),
        ("local_vmamba", {"patch_size": 2, "dims": [8, 8, 8], "depths": [1, 2, 1]}),
    ],
)
def test_mixer_grids_are_those_that_the_mixers_see(
    family: str, sizes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    original = mixers.scan_orders

    def record(names: Any, height: int, width: int, **rest: Any) -> Any:
        seen.append((height, width))
        return original(names, height, width, **rest)

    monkeypatch.setattr(mixers, "scan_orders", record)
    model = build_model(family, [["h"]] * (2 if family == "local_vim" else 4), states=1, **sizes)
    for height, width in ((21, 30), (13, 22), (16, 8)):
        seen.clear()
        model(torch.randn(1, 3, height, width))
        assert model.mixer_grids(height, width) == seen
