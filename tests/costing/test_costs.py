"""Costs by formula equal what torch counts in the real model; measured ones say how sure they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from scansearch.costing.flops import full_flops, model_costs, released_flops, space_costs
from scansearch.costing.latency import LatencyCache, default_cache, measure_costs
from scansearch.costing.subject import cost_subject
from scansearch.models import build_model
from scansearch.models.published import CANDIDATES, PUBLISHED
from scansearch.records.costs import CostRow, Costs
from scansearch.records.space import load_space

# Section 1 of the released code's facts: LocalVim to the unit; LocalVMamba's closed form, whose counter rounds.
RELEASED = {
    "localvim_tiny": 1_481_765_376,
    "localvim_tiny_nosearch": 1_481_765_376,
    "localvim_tiny_midcls": 1_489_172_736,
    "localvim_small": 4_771_341_312,
    "localvim_tiny_search": 1_116_130_304,
    "localvmamba_tiny": 5_728_690_176,
    "localvmamba_small": 11_372_946_432,
    "localvmamba_tiny_search": 2_099_914_752,
}
COUNTED = {
    "localvmamba_tiny": 5_728_681_207,
    "localvmamba_small": 11_372_957_664,
    "localvmamba_tiny_search": 2_099_924_780,
    "localvmamba_small_search": 3_923_502_836,
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(7)


def counted(model: torch.nn.Module, height: int, width: int) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.randn(1, 3, height, width))
    return int(counter.get_total_flops())


@pytest.mark.parametrize("name", PUBLISHED)
def test_full_equals_what_torch_counts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANSEARCH_BACKEND", "cpu")
    published = PUBLISHED[name]
    model = build_model(published.family, published.layers, **published.arguments)
    assert full_flops(model, 224, 224) == counted(model, 224, 224)


@pytest.mark.parametrize("name", [*RELEASED, "localvmamba_small_search"])
def test_released_equals_what_the_released_code_says(name: str) -> None:
    published = PUBLISHED[name]
    with torch.device("meta"):
        model = build_model(published.family, published.layers, **published.arguments)
    found = released_flops(model)
    if name in RELEASED:
        assert found == RELEASED[name]
    if name in COUNTED:
        assert abs(found / COUNTED[name] - 1) < 5e-6


def small(family: str, layers: Any, **kwargs: Any) -> Any:
    if family == "local_vim":
        sizes: dict[str, Any] = {"img_size": 20, "patch_size": 4, "embed_dim": 16}
    else:
        sizes = {"img_size": 20, "patch_size": 2, "dims": (8, 16), "depths": (1, len(layers) - 1)}
    return build_model(family, layers, **(sizes | {"states": 3, "num_classes": 5} | kwargs))


@settings(max_examples=25, deadline=None)
@given(
    family=st.sampled_from(["local_vim", "local_vmamba"]),
    layers=st.lists(st.lists(st.sampled_from(CANDIDATES), min_size=1, unique=True), min_size=3, max_size=3),
    attention=st.sampled_from(["none", "channel", "channel+spatial"]),
    size=st.sampled_from([(20, 20), (12, 28), (9, 33)]),
    padding=st.sampled_from(["zero", "skip"]),
)
def test_any_choice_costs_the_fixed_part_plus_its_directions(
    family: str, layers: list[list[str]], attention: str, size: tuple[int, int], padding: str
) -> None:
    """The table made from all candidates gives the exact parameters and FLOPs of every derived model."""
    switches = {"branch_attention": attention, "window_padding": padding}
    costs = model_costs(small(family, [CANDIDATES] * 3, **switches), *size)
    derived = small(family, layers, **switches)
    totals = costs.of(layers)
    assert totals["params"] == sum(p.numel() for p in derived.parameters())
    assert totals["flops"] == full_flops(derived, *size)
    if family == "local_vmamba" or padding == "skip":
        assert totals["flops"] == counted(derived, *size)


@pytest.mark.parametrize("token", ["none", "middle"])
def test_a_longer_padded_order_costs_more_and_only_its_own_steps(token: str) -> None:
    layers = [CANDIDATES]
    padded = model_costs(
        small("local_vim", layers, window_padding="zero", class_token=token, rope=False), 20, 20
    )
    cut = model_costs(small("local_vim", layers, class_token=token, rope=False), 20, 20)
    flops = dict(zip(CANDIDATES, padded.flops.table[0], strict=True))
    assert len({flops[name] for name in ("h", "h_flip", "v", "v_flip")}) == 1
    assert flops["h"] == cut.flops.table[0][0] < flops["w2"] < flops["w7"]
    assert len(set(cut.flops.table[0])) == 1
    assert padded.params == cut.params


def test_costs_of_a_space_are_those_of_its_derived_models() -> None:
    space = load_space("vim8")
    costs = space_costs(space, num_classes=10, in_chans=1)
    assert (costs.space, costs.variant, costs.image_size) == ("vim8", "micro", (28, 28))
    layers = [["h", "w2"], ["v"], ["w7", "w7_flip", "h_flip"]][: costs.layers]
    model = build_model(
        "local_vim",
        layers,
        **(space.model_arguments("micro", "derived") | {"num_classes": 10, "in_chans": 1}),
    )
    assert costs.of(layers)["params"] == sum(p.numel() for p in model.parameters())
    with pytest.raises(ValueError, match="weighted=False"):
        model_costs(small("local_vim", [CANDIDATES], weighted=True), 20, 20)


@pytest.mark.parametrize("family", ["local_vim", "local_vmamba"])
def test_latency_is_measured_with_its_noise_once_for_each_shape(family: str) -> None:
    model = small(family, [("h", "w2", "v")] * 3)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    cache = LatencyCache()
    costs = measure_costs(model, 20, 20, repeats=5, cache=cache)
    assert len(cache.figures) == 3 * (1 if family == "local_vim" else 2)
    assert costs.device is not None
    assert costs.device.endswith("1 threads")
    assert costs.latency_ms is not None
    assert costs.latency_noise_ms is not None
    assert costs.latency_ms.table[1] == costs.latency_ms.table[2]
    assert costs.latency_ms.fixed > 0
    assert all(figure >= 0 for row in costs.latency_ms.table for figure in row)
    assert any(figure > 0 for row in costs.latency_noise_ms for figure in row)
    again = measure_costs(model, 20, 20, repeats=5, cache=cache)
    assert again.latency_ms is not None
    assert again.latency_ms.table == costs.latency_ms.table
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    model(torch.randn(1, 3, 20, 20)).sum().backward()  # nothing made in inference mode is left behind
    with pytest.raises(ValueError, match="repeats"):
        measure_costs(model, 20, 20, repeats=1)


def test_figures_that_stand_out_of_their_noise_are_kept_between_processes(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "latency.json"
    model = small("local_vim", [("h", "w2", "v")])
    cache = LatencyCache(path)
    measure_costs(model, 20, 20, repeats=3, cache=cache)
    assert len(cache.figures) == 3
    for key, pair in zip(sorted(cache.figures), [(1.0, 0.1), (2.0, 0.5), (3.0, 0.9)], strict=True):
        cache.figures[key] = pair
    cache.save()
    again = LatencyCache(path)
    assert sorted(again.figures.values()) == [(1.0, 0.1), (2.0, 0.5)]
    second = measure_costs(model, 20, 20, repeats=3, cache=again).latency_ms
    assert second is not None
    assert {1.0, 2.0} < set(second.table[0])
    measure_costs(model, 24, 20, repeats=3, cache=again)
    measure_costs(model, 20, 20, repeats=4, cache=again)
    assert len(again.figures) == 9
    for broken in ("{", "[1]", '{"a": 1}'):
        path.write_text(broken)
        assert LatencyCache(path).figures == {}


@pytest.fixture
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(Path.home() / ".cache" / "scansearch"))


def command(*arguments: str) -> tuple[int, str]:
    from scansearch.cli.costs import costs

    app = typer.Typer()
    app.command()(costs)
    result = CliRunner().invoke(app, list(arguments), terminal_width=200)
    return result.exit_code, str(result.exception or result.output)


@pytest.mark.usefixtures("private_cache")
def test_the_command_shows_models_genotypes_and_spaces(tmp_path: Path) -> None:
    code, shown = command("localvim_tiny")
    assert code == 0, shown
    assert "total 7.99 M" in shown
    assert "total 3.42 G" in shown
    assert "As the released code counts: 1.48 G" in shown
    code, shown = command(
        "vmamba8", "--latency", "--out", str(tmp_path / "costs.json"), "--num-classes", "10"
    )
    assert code == 0, shown
    assert "measured on" in shown
    assert default_cache().is_file()
    assert Costs.load(tmp_path / "costs.json").measures == ("flops", "params", "latency_ms")
    from scansearch.records.genotype import Genotype

    Genotype(family="local_vim", layers=(("h", "w3"),) * 2, model={"embed_dim": 16}).save(tmp_path / "g.yaml")
    code, shown = command(str(tmp_path / "g.yaml"), "--image-size", "64")
    assert code == 0, shown
    assert "w3" in shown
    assert "64x64" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), "'nothing' is unknown: costs takes a genotype file"),
        (("localvim_tiny", "--variant", "tiny"), "belongs to a search space"),
        (("vim8", "--variant", "huge"), "no variant"),
        (("localvim_tiny", "--image-size", "-3"), "expected a side such as 224"),
        (("vim8", "--latency", "--batch-size", "0"), "batch 0"),
    ],
)
def test_bad_input_of_the_command_is_named(arguments: tuple[str, ...], message: str) -> None:
    code, shown = command(*arguments)
    assert code != 0
    assert message in shown


def test_fresh_figures_replace_the_old_ones_and_keep_the_others(tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    path.write_text('{"old": [1.0, 0.1], "other": [2.0, 0.1], "bad": [-1.0, 0.1], "worse": [NaN, 0.1]}')
    assert LatencyCache(path).figures == {"old": (1.0, 0.1), "other": (2.0, 0.1)}
    cache = LatencyCache(path, fresh=True)
    assert cache.figures == {}
    cache.figures["old"] = (3.0, 0.1)
    cache.save()
    assert LatencyCache(path).figures == {"old": (3.0, 0.1), "other": (2.0, 0.1)}


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path, monkeypatch: Any) -> None:
    from scansearch.errors import RunStopped
    from scansearch.files import atomic

    def full(path: Path, text: str) -> None:
        raise RunStopped("the disk is full")

    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "latency.json", tmp_path / "latency.json"):
        cache = LatencyCache(path)
        cache.figures["a"] = (1.0, 0.1)
        monkeypatch.setattr(atomic, "write_text", full)
        cache.save()
        assert not path.exists()


def test_the_published_models_hold_scans_twice():
    subject = cost_subject("localvmamba_tiny")
    assert subject.repeated_scans() == ["layers 13 to 14, 7x7 tokens: w7_flip is h_flip (the same scan)"]
    assert cost_subject("localvmamba_tiny", image_size=448).repeated_scans() == []
    assert cost_subject("localvim_tiny").repeated_scans() == []


def test_a_latency_within_its_noise_is_a_bound_and_no_zero() -> None:
    assert CostRow(0, "h", 1, 1, 2.5, 0.1).latency == "2.500 ms"
    assert CostRow(0, "h", 1, 1, 0.0, 1.745).latency == "< 3.490 ms"
    assert CostRow(0, "h", 1, 1, 0.2, 0.1).latency == "< 0.400 ms"
    assert CostRow(0, "h", 1, 1, 2.5).latency == "2.500 ms"
    assert CostRow(0, "h", 1, 1).latency == ""
