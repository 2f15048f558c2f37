"""Released checkpoints: safe to read, strict about shapes, there and back without loss."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import typer
from safetensors.torch import load_file, save_file
from support.commands import call
from torch import Tensor

from scansearch.errors import InputError
from scansearch.models import LocalVim, LocalVMamba
from scansearch.models.backbone import ScanBackbone
from scansearch.models.checkpoints import from_released, read_checkpoint, to_released
from scansearch.records.lookup import published_genotype
from scansearch.records.weights import load_weights

VIM = {"img_size": 12, "patch_size": 4, "embed_dim": 16, "states": 4, "num_classes": 3}
VMAMBA = {"dims": (8, 16), "depths": (1, 1), "img_size": 12, "patch_size": 2, "states": 4, "num_classes": 3}
CROSS = ("h", "h_flip", "v", "v_flip")
MODELS: dict[str, Any] = {
    "local_vim": lambda: LocalVim([("h", "w2", "v"), ("v",)], **VIM),
    "local_vim_supernet": lambda: LocalVim([("h", "w2")] * 2, weighted=True, norm="layer", **VIM),
    "local_vim_middle": lambda: LocalVim([("h", "w2")], class_token="middle", rope=False, **VIM),
    "local_vim_backbone": lambda: LocalVim([("h",)] * 3, feature_levels=(0, 2), features="released", **VIM),
    "vim": lambda: LocalVim([("h", "h_flip")] * 2, branch_attention="none", merge="mean", **VIM),
    "local_vmamba": lambda: LocalVMamba([("h", "w2", "v"), ("v",)], **VMAMBA),
    "local_vmamba_supernet": lambda: LocalVMamba([("h", "w2")] * 2, weighted=True, **VMAMBA),
    "local_vmamba_backbone": lambda: LocalVMamba([("h",)] * 2, feature_levels=(0, 1), **VMAMBA),
    "vmamba": lambda: LocalVMamba([CROSS] * 2, branch_attention="none", **VMAMBA),
}


def randomised(name: str) -> ScanBackbone:
    model = MODELS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


@pytest.mark.parametrize("name", MODELS)
def test_there_and_back_is_exact_and_copies(name: str) -> None:
    model = randomised(name)
    released = to_released(model)
    again = from_released(model, released)
    state = model.state_dict()
    assert again.keys() == state.keys()
    for key, value in state.items():
        assert torch.equal(again[key], value), key
        assert again[key].data_ptr() != value.data_ptr()
    assert to_released(model).keys() == released.keys()
    for value in released.values():
        value.zero_()
    assert all(value.any() for value in model.state_dict().values())


def test_names_are_those_of_the_code_that_the_weights_come_from() -> None:
    names = set(to_released(randomised("local_vim")))
    assert {"layers.0.mixer.A_log_2", "layers.0.mixer.conv1d_1.weight", "layers.1.mixer.D_0"} <= names
    assert {"layers.0.mixer.attn.norm.bias", "norm_f.weight", "rope.freqs_cos", "pos_embed"} <= names
    assert {"layers.0.mixer.A_b_log", "layers.0.mixer.conv1d_b.weight"} <= set(to_released(randomised("vim")))
    assert {"outnorm_0.weight", "outnorm_1.bias"} <= set(to_released(randomised("local_vim_backbone")))
    names = set(to_released(randomised("local_vmamba_supernet")))
    assert {"patch_embed.2.weight", "layers.0.blocks.0.op.A_logs", "classifier.head.bias"} <= names
    assert {"layers.1.blocks.0.op.multi_scan.weights", "layers.0.downsample.norm.weight"} <= names


def test_vmamba_keeps_its_own_order_of_directions() -> None:
    """VMamba stacks rows, columns, rows reversed, columns reversed."""
    model = randomised("vmamba")
    stacked = to_released(model)["layers.0.blocks.0.op.dt_projs_bias"]
    mine = model.mixers[0].dt_bias
    for row, direction in enumerate(("h", "v", "h_flip", "v_flip")):
        assert torch.equal(stacked[row], mine[CROSS.index(direction)])


def test_older_vmamba_names_are_understood() -> None:
    model = randomised("vmamba")
    older: dict[str, Tensor] = {}
    for key, value in to_released(model).items():
        key = re.sub(r"^patch_embed\.0\.", "patch_embed.proj.", key)
        key = re.sub(r"^patch_embed\.2\.", "patch_embed.norm.", key)
        key = re.sub(r"^classifier\.", "", key)
        key = re.sub(r"(blocks\.\d+)\.norm\.", r"\1.ln_1.", key)
        older[key.replace(".op.", ".self_attention.")] = value
    assert "head.weight" in older
    assert "layers.0.blocks.0.ln_1.weight" in older
    found = from_released(model, older)
    assert all(torch.equal(found[key], value) for key, value in model.state_dict().items())


def test_what_does_not_fit_is_named() -> None:
    model = randomised("local_vim")
    good = to_released(model)
    with pytest.raises(ValueError, match=r"missing layers\.0\.mixer\.D_1"):
        from_released(model, {k: v for k, v in good.items() if k != "layers.0.mixer.D_1"})
    with pytest.raises(ValueError, match=r"unexpected layers\.7\.norm\.weight"):
        from_released(model, good | {"layers.7.norm.weight": torch.zeros(16)})
    with pytest.raises(ValueError, match=r"head\.weight is \[10, 16\], the model needs \[3, 16\]"):
        from_released(model, good | {"head.weight": torch.zeros(10, 16)})
    transposed = good | {"layers.0.mixer.D_0": good["layers.0.mixer.D_0"][None]}
    with pytest.raises(ValueError, match=r"D_0 is \[1, 32\], the model needs \[32\]"):
        from_released(model, transposed)
    with pytest.raises(ValueError, match="rope tables"):
        from_released(model, good | {"rope.freqs_cos": good["rope.freqs_cos"].roll(1, 0)})
    plain = randomised("local_vim_middle")
    with pytest.raises(ValueError, match="no rope"):
        from_released(plain, to_released(plain) | {"rope.freqs_cos": good["rope.freqs_cos"]})
    with pytest.raises(ValueError, match="has no 'v'"):
        to_released(LocalVim([("v",)], branch_attention="none", **VIM))
    with pytest.raises(ValueError, match="layout is VMamba's"):
        to_released(LocalVMamba([("v",)] * 2, branch_attention="none", **VMAMBA))
    with pytest.raises(ValueError, match="pyramid"):
        to_released(LocalVim([("v",)], pyramid=True, **VIM))


PREFIXES = ("module", "model", "backbone", "_orig_mod", "_orig_mod.module", "model.backbone")


@pytest.mark.parametrize(
    "layout", ["bare", "model", "state_dict", "state_dict_ema", *(f"{p}." for p in PREFIXES)]
)
def test_every_usual_file_layout_is_read(layout: str, tmp_path: Path) -> None:
    state = to_released(randomised("local_vmamba"))
    prefixed = layout.endswith(".")
    data: Any = {f"{layout}{key}": value for key, value in state.items()} if prefixed else state
    if layout != "bare" and not prefixed:
        arguments = argparse.Namespace(lr=1e-3, name="x", betas=(0.9, 0.99))
        data = {layout: data, "args": arguments, "epoch": 3, "optimizer": {"state": {}}}
    torch.save(data, tmp_path / "c.pth")
    found = read_checkpoint(tmp_path / "c.pth")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], value) for key, value in state.items())


def test_safetensors_and_a_chosen_entry_are_read(tmp_path: Path) -> None:
    state = to_released(randomised("local_vim"))
    save_file(state, tmp_path / "c.safetensors")
    assert read_checkpoint(tmp_path / "c.safetensors").keys() == state.keys()
    ema = {key: value + 1 for key, value in state.items()}
    torch.save({"model": state, "model_ema": ema}, tmp_path / "c.pth")
    found = read_checkpoint(tmp_path / "c.pth", "model_ema")
    assert torch.equal(found["norm_f.weight"], ema["norm_f.weight"])
    assert torch.equal(read_checkpoint(tmp_path / "c.pth")["norm_f.weight"], state["norm_f.weight"])
    with pytest.raises(ValueError, match="no entry 'ema'"):
        read_checkpoint(tmp_path / "c.pth", "ema")


class Harmful:
    """Would create a file if it were unpickled without care."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.target,))


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.ones(1)}, "args": Harmful(tmp_path / "ran")}, tmp_path / "c.pth")
    with pytest.raises(ValueError, match="could run code"):
        read_checkpoint(tmp_path / "c.pth")
    assert not (tmp_path / "ran").exists()


def test_what_is_no_checkpoint_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    for name in ("text.pth", "text.safetensors", "list.pth", "none.pth", "absent.pth"):
        with pytest.raises(ValueError, match=re.escape(name)) as error:
            read_checkpoint(tmp_path / name)
        assert "\n" not in str(error.value)


def command(*arguments: str) -> tuple[int, str]:
    """Exit code and error output of the command on its own."""
    from typer.testing import CliRunner

    from scansearch.cli.convert import convert

    app = typer.Typer()
    app.command()(convert)
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, str(result.exception or result.output)


def test_the_command_converts_there_and_back(tmp_path: Path) -> None:
    with torch.device("cpu"):
        model = timm.create_model("localvim_tiny", num_classes=2, img_size=64)
    released = to_released(model)
    torch.save({"state_dict": released}, tmp_path / "released.pth")
    options = ("--model", "localvim_tiny", "--image-size", "64", "--out")
    ours = tmp_path / "ours.safetensors"
    code, shown = command(str(tmp_path / "released.pth"), *options, str(ours))
    assert (code, "localvim_tiny" in shown) == (0, True), shown
    model.load_state_dict(load_file(ours))
    code, shown = command(str(ours), *options, str(tmp_path / "back.safetensors"), "--back")
    assert code == 0, shown
    back = load_file(tmp_path / "back.safetensors")
    assert back.keys() == released.keys()
    assert all(torch.equal(back[key], value) for key, value in released.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read(dtype: torch.dtype) -> None:
    model = randomised("local_vim")
    halves = {name: value.to(dtype) for name, value in to_released(model).items()}
    for name, value in from_released(model, halves).items():
        torch.testing.assert_close(value.float(), model.state_dict()[name].to(dtype).float(), rtol=0, atol=0)
    for name in ("rope.freqs_cos", "rope.freqs_sin"):
        other = halves | {name: (halves[name].float() + 0.05).to(dtype)}
        with pytest.raises(InputError, match="rope tables"):
            from_released(model, other)


def test_a_converted_file_is_evaluated_and_trained_from(tmp_path: Path, capsys: Any) -> None:
    """The header holds the published genotype, so that the file serves wherever weights do."""
    model = timm.create_model("vim_tiny", num_classes=10, img_size=28)
    torch.save(to_released(model), tmp_path / "released.pth")
    ours = tmp_path / "ours.safetensors"
    options = ("--model", "vim_tiny", "--image-size", "28", "--out", str(ours))
    code, shown = command(str(tmp_path / "released.pth"), *options)
    assert code == 0, shown
    weights = load_weights(ours)
    assert weights.genotype.layers == published_genotype("vim_tiny").layers
    assert weights.arguments == {"num_classes": 10, "in_chans": 3, "img_size": 28}
    assert weights.notes["converted_from"] == "released.pth"
    images = torch.randn(2, 3, 28, 28)
    torch.testing.assert_close(weights.model(images), model.eval()(images))
    code, _, err = call(capsys, "evaluate", str(ours), "--data", "fake:28x28:10", "--device", "cpu", "--json")
    assert code == 0, err
    code, _, err = call(capsys, "evaluate", str(ours), "--device", "cpu")
    assert code == 2
    assert "--data" in err
    assert err.count("\n") == 1


def test_the_command_names_what_does_not_fit(tmp_path: Path) -> None:
    torch.save(to_released(randomised("local_vim")), tmp_path / "c.pth")
    for options, message in [
        (("--model", "localvim_tiny", "--out", "x.safetensors"), "does not fit LocalVim"),
        (("--model", "localvim_huge", "--out", "x.safetensors"), "unknown model 'localvim_huge'"),
        (("--model", "localvim_tiny", "--out", "x.pth"), "must end in .safetensors"),
    ]:
        code, shown = command(str(tmp_path / "c.pth"), *options)
        assert code != 0
        assert message in shown
