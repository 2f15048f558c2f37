"""The model benchmark end to end on the CPU: what a GPU would run, at a size that takes seconds."""

import os
from pathlib import Path

import pytest
import torch
from scansearch_kernels import backends

from scansearch.bench.models import bench_models, line
from scansearch.bench.peak import peak_mib
from scansearch.errors import InputError


def test_models_are_measured_end_to_end_on_the_cpu() -> None:
    told: list[str] = []
    rows = bench_models(
        ["localvim_tiny", "deit_tiny_patch16_224"],
        device="cpu",
        batch=1,
        image_size=32,
        dtype="float32",
        repeats=1,
        memory=False,
        arguments={"num_classes": 2},
        progress=told.append,
    )
    assert [row.model for row in rows] == ["localvim_tiny", "deit_tiny_patch16_224"]
    assert told == [line(row) for row in rows]
    assert rows[0].parameters > rows[1].parameters > 5e6
    for row in rows:
        assert row.inference_images_per_s > 0
        assert row.training_images_per_s > 0
        assert row.threads == torch.get_num_threads()


def test_the_backend_asked_for_is_the_one_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    pick = backends.pick

    def watched(backend: str | None, device_type: str):
        seen.append(os.environ.get(backends.VARIABLE))
        return pick(backend, device_type)

    monkeypatch.setattr(backends, "pick", watched)
    monkeypatch.delenv(backends.VARIABLE, raising=False)
    bench_models(
        ["localvim_tiny"],
        device="cpu",
        batch=1,
        image_size=32,
        dtype="float32",
        backend="reference",
        repeats=1,
        memory=False,
    )
    assert set(seen) == {"reference"}
    assert backends.VARIABLE not in os.environ


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"names": ["no_such_model"], "device": "cpu"}, "model 'no_such_model' is unknown to timm"),
        ({"names": [], "device": "cpu", "dtype": "int8"}, "dtype must be one of float32, bfloat16, float16"),
    ],
)
def test_impossible_requests_are_one_clear_line(wrong: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        bench_models(**wrong)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_device_is_named() -> None:
    with pytest.raises(InputError, match="no usable CUDA device"):
        bench_models(["localvim_tiny"])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells peaks")
def test_the_peak_of_training_holds_the_gradients() -> None:
    inference, training = peak_mib("test_vit", {"img_size": 32}, batch=64, image_size=32, dtype="float32")
    assert training > inference > 0


def run(*arguments: str) -> object:
    from typer.testing import CliRunner

    from scansearch.cli.bench import app

    return CliRunner().invoke(app, list(arguments))


def test_the_command_prints_what_was_measured_as_json() -> None:
    import json

    done = run(
        "models", "--model", "localvim_tiny", "--device", "cpu", "--batch-size", "1", "--image-size", "32",
        "--dtype", "float32", "--repeats", "1", "--json",
    )  # fmt: skip
    (row,) = json.loads(done.stdout)
    assert row["model"] == "localvim_tiny"
    assert row["training_images_per_s"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize(
    ("device", "message"), [("cuda", "no usable CUDA device"), ("tpu", "must be cpu or cuda, not 'tpu'")]
)
def test_kernels_on_an_impossible_device_are_one_clear_line(device: str, message: str) -> None:
    done = run("kernels", "--device", device)
    assert isinstance(done.exception, InputError)
    assert message in str(done.exception)
