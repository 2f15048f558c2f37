"""A training is a pure function of its configuration, survives a kill at any step, and every option counts."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from planted import made_data
from safetensors.torch import load_file
from test_data import made_images

from scansearch import engine
from scansearch.cli import main
from scansearch.data import ImageData
from scansearch.engine import make_accelerator
from scansearch.errors import InputError, RunStopped
from scansearch.evaluation import evaluate
from scansearch.genotype import Genotype
from scansearch.runs import Run
from scansearch.training import TrainTask, parameter_groups
from scansearch.training_config import TrainConfig, train_config
from scansearch.training_run import find_genotype, train
from scansearch.weights import load_weights

LAYERS = [["h", "w2"], ["v", "v_flip"]]


@pytest.fixture
def genotype(tiny_space) -> Genotype:
    return Genotype.of_space(tiny_space, LAYERS)


@pytest.fixture
def make_task(genotype):
    """A training task on made images; ``options`` are fields of TrainConfig."""

    def make(*, data: ImageData | None = None, genotype: Genotype = genotype, **options) -> TrainTask:
        settings = {"model": "tiny", "data": "bars", "epochs": 3, "batch_size": 16, "device": "cpu"} | options
        config: TrainConfig = train_config(**settings)
        accelerator = make_accelerator("cpu", config.mixed_precision)
        return TrainTask(config, genotype, data or made_data(), accelerator)

    return make


def drive(task, **options):
    return list(engine.drive(task, seed=task.config.seed, **options))


def weights(task) -> torch.Tensor:
    return torch.cat([p.detach().flatten().float() for p in task.model.parameters()])


# --- exact resume ---

FULL = {
    "ema": {"decay": 0.9, "warmup": True},
    "mix": {"mixup": 0.4, "cutmix": 1.0},
    "erase": {"probability": 0.5},
    "drop_path": 0.2,
    "accumulate": 2,
    "optimizer": {"layer_decay": 0.8},
}
RESUMED = {
    "everything on": FULL,
    "sgd": {"optimizer": {"name": "sgd", "momentum": 0.9, "lr": 0.05}},
    "lamb counts steps per group": {"optimizer": {"name": "lamb"}},
    "lookahead keeps slow weights": {"optimizer": {"name": "lookahead_adamw"}},
    "bf16": {"mixed_precision": "bf16"},
}


@pytest.mark.parametrize("options", RESUMED.values(), ids=RESUMED.keys())
def test_a_training_resumed_from_any_checkpoint_ends_bit_identical(make_task, options):
    whole = make_task(seed=3, **options)
    events = drive(whole)
    saved = [event for event in events if isinstance(event, engine.CheckpointReady)]
    assert len(saved) == 12  # every tenth of 12 steps is every step, so most are in the middle of an epoch
    records = [event for event in events if not isinstance(event, engine.CheckpointReady)]
    for checkpoint in (saved[0], saved[5], saved[-2]):
        resumed = make_task(seed=3, **options)
        state = json.loads(json.dumps(checkpoint.state))
        rest = drive(resumed, resume=(checkpoint.tensors, state))
        final, expected = resumed.tensors(), whole.tensors()
        assert final.keys() == expected.keys()
        for name, tensor in expected.items():
            assert torch.equal(final[name], tensor), name
        assert resumed.state() == whole.state()
        repeated = [event for event in rest if not isinstance(event, engine.CheckpointReady)]
        assert repeated == records[-len(repeated) :]
    if "ema" in options:
        assert any(name.startswith("ema.") for name in expected)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(make_task):
    def final(seed):
        task = make_task(seed=seed, epochs=1)
        drive(task)
        return weights(task)

    assert torch.equal(final(1), final(1))
    assert not torch.equal(final(1), final(2))


# --- every option reaches the training ---

CHANGING = {
    "optimizer": {"optimizer": {"name": "lion"}},
    "lr": {"optimizer": {"lr": 1e-3}},
    "weight decay": {"optimizer": {"weight_decay": 0.5}},
    "decay policy": {"optimizer": {"decay": "released", "weight_decay": 0.5}},
    "betas": {"optimizer": {"betas": [0.5, 0.9]}},
    "eps": {"optimizer": {"eps": 1e-3}},
    "layer decay": {"optimizer": {"layer_decay": 0.5}},
    "no clipping": {"optimizer": {"clip": None}},
    "clipping by value": {"optimizer": {"clip": 1e-4, "clip_mode": "value"}},
    "adaptive clipping": {"optimizer": {"clip": 1e-4, "clip_mode": "agc"}},
    "schedule": {"schedule": {"name": "linear"}},
    "tanh": {"schedule": {"name": "tanh"}},
    "warm-up": {"schedule": {"warmup_epochs": 1}},
    "min lr": {"schedule": {"min_lr": 4e-3}},
    "label smoothing": {"label_smoothing": 0.0},
    "drop path": {"drop_path": 0.9},
    "mixup": {"mix": {"mixup": 1.0}},
    "cutmix": {"mix": {"cutmix": 1.0}},
    "erasing": {"erase": {"probability": 1.0}},
    "bf16": {"mixed_precision": "bf16"},
    "batch size": {"batch_size": 8},
    "model options": {"model_options": {"drop_rate": 0.5}},
}
MIXING = {
    "probability": {"mix": {"cutmix": 1.0, "probability": 0.0}},
    "switch": {"mix": {"cutmix": 1.0, "mixup": 1.0, "switch": 0.0}},
    "mode": {"mix": {"cutmix": 1.0, "mode": "elem"}},
}


def after_two_epochs(make_task, options):
    clip = {"clip": 0.1}
    options = dict(options)
    options["optimizer"] = clip | options.get("optimizer", {})
    task = make_task(epochs=2, **options)
    drive(task)
    return weights(task)


@pytest.mark.parametrize("options", CHANGING.values(), ids=CHANGING.keys())
def test_options_change_what_is_learned(make_task, options):
    assert not torch.equal(after_two_epochs(make_task, {}), after_two_epochs(make_task, options))


@pytest.mark.parametrize("options", MIXING.values(), ids=MIXING.keys())
def test_options_of_mixing_count(make_task, options):
    plain = after_two_epochs(make_task, {"mix": {"cutmix": 1.0}})
    assert not torch.equal(plain, after_two_epochs(make_task, options))


def test_options_of_erasing_count(make_task):
    erase = {"probability": 1.0}
    plain = after_two_epochs(make_task, {"erase": erase})
    for option in ({"mode": "const"}, {"max_count": 4}):
        assert not torch.equal(plain, after_two_epochs(make_task, {"erase": erase | option}))


@pytest.mark.parametrize(
    "options", [{"channels_last": True}, {"grad_checkpointing": True}, {"accumulate": 2}], ids=str
)
def test_how_a_step_is_computed_does_not_change_what_is_learned(make_task, options):
    plain = make_task(epochs=1, optimizer={"name": "sgd", "lr": 0.1})
    other = make_task(epochs=1, optimizer={"name": "sgd", "lr": 0.1}, **options)
    drive(plain)
    drive(other)
    torch.testing.assert_close(weights(other), weights(plain), rtol=1e-4, atol=1e-6)


def test_the_moving_average_is_what_its_formula_says_and_is_what_is_scored(make_task):
    task = make_task(epochs=1, ema={"decay": 0.7})
    expected = None
    for event in engine.drive(task, seed=0):
        if isinstance(event, engine.StepDone):
            now = weights(task).double()
            expected = now if event.step == 1 else 0.7 * expected + 0.3 * now
    average = torch.cat([p.detach().flatten().double() for p in task.ema.module.parameters()])
    torch.testing.assert_close(average, expected, rtol=1e-5, atol=1e-7)
    assert task.scored_model is task.ema.module


def test_learning_rates_are_those_of_the_released_recipe(make_task):
    """Warm-up held within each epoch (5.01e-5 in the first of 20, 1e-3 in the last), then a cosine by step."""
    task = make_task(
        epochs=60,
        optimizer={"lr": 1e-3},
        schedule={"warmup_epochs": 20, "warmup_by": "epoch", "warmup_lr": 1e-7, "min_lr": 1e-6},
    )
    rates = []
    for step in range(task.epochs * task.steps_per_epoch):
        task.set_learning_rate(step // task.steps_per_epoch, step)
        rates.append(task.optimizer.param_groups[0]["lr"])
    each, total = task.steps_per_epoch, len(rates)
    for epoch in range(20):
        expected = 1e-7 + (epoch + 1) / 20 * (1e-3 - 1e-7)
        assert rates[epoch * each : (epoch + 1) * each] == pytest.approx([expected] * each)
    assert rates[0] == pytest.approx(5.01e-5, rel=1e-2)
    for step in range(20 * each, total):
        progress = (step - 20 * each) / (total - 20 * each)
        assert rates[step] == pytest.approx(1e-6 + (1e-3 - 1e-6) * (1 + math.cos(math.pi * progress)) / 2)


def test_weight_decay_and_layer_decay_go_where_they_belong(make_task):
    task = make_task(optimizer={"layer_decay": 0.5, "weight_decay": 0.1})
    names = {id(p): name for name, p in task.model.named_parameters()}
    found = {
        names[id(p)]: (group["weight_decay"], group["lr_scale"])
        for group in parameter_groups(task.model, task.config.optimizer)
        for p in group["params"]
    }
    assert found.keys() == set(names.values())
    assert found["head.weight"] == (0.1, 1.0)
    assert found["head.bias"] == (0.0, 1.0)
    assert found["layers.1.mixer.in_proj.weight"] == (0.1, 0.5)
    assert found["layers.0.mixer.in_proj.weight"] == (0.1, 0.25)
    assert found["layers.0.mixer.A_log"] == (0.0, 0.25)
    assert found["pos_embed"] == (0.0, 0.125)
    task.set_learning_rate(0, 0)
    top = max(group["lr"] for group in task.optimizer.param_groups)
    assert min(group["lr"] for group in task.optimizer.param_groups) == pytest.approx(top / 8)


def test_weights_stay_float32_under_bf16(make_task):
    task = make_task(epochs=1, mixed_precision="bf16")
    drive(task)
    assert {p.dtype for p in task.model.parameters()} == {torch.float32}


def test_a_training_learns(make_task):
    task = make_task(epochs=12, batch_size=8, optimizer={"lr": 1e-2})
    epochs = [event.metrics for event in drive(task) if isinstance(event, engine.EpochDone)]
    assert epochs[-1]["validation_accuracy"] > 60  # of four classes
    assert task.best["accuracy"] == max(epoch["validation_accuracy"] for epoch in epochs)


# --- bad input ---

BAD = {
    "unknown optimizer": ({"optimizer": {"name": "adamv"}}, "allowed: adam"),
    "option that the optimizer lacks": (
        {"optimizer": {"name": "sgd", "betas": [0.9, 0.99]}},
        "optimizer 'sgd'",
    ),
    "batch too large": ({"batch_size": 65}, "larger than the 64 training images"),
    "batch not divisible": ({"batch_size": 6, "accumulate": 4}, "not a multiple of accumulate 4"),
    "odd batch to mix": ({"batch_size": 9, "mix": {"mixup": 1.0}}, "even number"),
    "warm-up too long": ({"schedule": {"warmup_epochs": 3}}, "leaves nothing of 3 epochs"),
    "rates upside down": ({"schedule": {"min_lr": 1.0}}, "must not be above optimizer.lr"),
    "unknown field": ({"optimizer": {"lrr": 1}}, "unknown key 'optimizer.lrr'"),
    "size as model option": ({"model_options": {"num_classes": 3}}, "model_options.num_classes"),
    "unknown model option": ({"model_options": {"colour": 3}}, "no argument 'colour'"),
}


@pytest.mark.parametrize(("options", "message"), BAD.values(), ids=BAD.keys())
def test_options_that_do_not_fit_are_one_clear_line(make_task, options, message):
    with pytest.raises(InputError) as found:
        make_task(**options)
    assert message in str(found.value)
    assert "\n" not in str(found.value)


def test_augmentation_is_refused_where_the_data_have_their_own(genotype, tmp_path):
    with pytest.raises(InputError, match="augmentation of its own"):
        train(genotype, data="digits", out=tmp_path / "run", augment={"flip": 0.0})
    assert not (tmp_path / "run").exists()


def test_models_are_found_by_name_file_and_folder(genotype, tmp_path):
    genotype.save(tmp_path / "genotype.yaml")
    assert find_genotype(str(tmp_path)) == find_genotype(str(tmp_path / "genotype.yaml")) == genotype
    published = find_genotype("localvim_tiny")
    assert sum(p.numel() for p in published.build().parameters()) == 7_994_152
    with pytest.raises(InputError, match="localvim_small"):
        find_genotype("localvim_huge")


# --- the command line ---

QUICK = [
    "--data",
    "digits",
    "--epochs",
    "2",
    "--batch-size",
    "64",
    "--set",
    "image_size=8",
    "--device",
    "cpu",
]
QUICK += ["--set", "ema={decay: 0.9}"]


def call(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    out, err = capsys.readouterr()
    return stop.value.code or 0, out, err


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of one finished training of a tiny genotype."""
    from tiny import TINY_SPACE

    from scansearch.spaces import SearchSpace
    from scansearch.yaml_io import validate

    folder = tmp_path_factory.mktemp("trainings")
    Genotype.of_space(validate(TINY_SPACE, SearchSpace, source="tiny"), LAYERS).save(folder / "genotype.yaml")
    with pytest.raises(SystemExit) as stop:
        main(["train", str(folder / "genotype.yaml"), *QUICK, "--out", str(folder / "run"), "--quiet"])
    assert not stop.value.code
    return folder / "run"


def test_train_leaves_everything_that_it_promises(finished):
    present = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    assert present >= {
        "config.yaml", "environment.json", "metrics.jsonl", "genotype.yaml", "best.safetensors", "result.json",
        "summary.md", "plots/training.png", "plots/confusion.png",
    }  # fmt: skip
    assert not [name for name in present if "/." in f"/{name}"], "temporary files are left"
    assert len(list((finished / "checkpoints").iterdir())) == 2
    run = Run.open(finished)
    assert [record["step"] for record in run.metrics("step")] == list(range(1, 2 * (1257 // 64) + 1))
    result = json.loads((finished / "result.json").read_text())
    best = max(run.metrics("epoch"), key=lambda record: record["validation_accuracy"])
    assert result["validation"]["top1"] == pytest.approx(best["validation_accuracy"])
    assert result["best_epoch"] == best["epoch"] + 1
    assert f"test accuracy {result['test']['top1']:.2f} %" in (finished / "summary.md").read_text()


def test_the_best_weights_are_the_ones_that_were_scored(finished):
    result = json.loads((finished / "result.json").read_text())
    found = evaluate(finished, device="cpu", batch_size=77)
    assert found.top1 == pytest.approx(result["test"]["top1"])
    assert found.loss == pytest.approx(result["test"]["loss"], rel=1e-5)
    assert found.image_size == (8, 8)
    loaded = load_weights(finished / "best.safetensors")
    assert loaded.genotype.hash == Run.open(finished).genotype.hash
    assert loaded.arguments["num_classes"] == 10
    assert sum(p.numel() for p in loaded.model.parameters()) == result["params"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_an_interrupted_training_resumes_in_mid_epoch_and_ends_bit_identical(
    number, code, finished, tmp_path, capsys
):
    folder = tmp_path / "run"
    genotype = str(finished.parent / "genotype.yaml")
    arguments = [sys.executable, "-m", "scansearch", "train", genotype, *QUICK, "--out", str(folder)]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    metrics = folder / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") >= 8):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    assert process.wait(100) == code
    if number == signal.SIGINT:
        last = process.stderr.read().strip().splitlines()[-1]
        assert last == f"error: interrupted; saved. Continue with: scansearch train --resume {folder}"
    saved = [int(path.stem.split("-")[1]) for path in Run.open(folder).checkpoints()]
    assert saved[-1] % (1257 // 64), "the last checkpoint is in the middle of an epoch"
    assert not (folder / "result.json").exists()
    assert call(capsys, "train", "--resume", str(folder), "--quiet")[0] == 0
    whole, resumed = Run.open(finished), Run.open(folder)
    assert resumed.metrics("step") == whole.metrics("step")
    for name in ("best.safetensors", f"checkpoints/{whole.checkpoints()[-1].name}"):
        expected, found = load_file(finished / name), load_file(folder / name)
        assert expected.keys() == found.keys()
        assert all(torch.equal(found[key], tensor) for key, tensor in expected.items()), name


def test_what_train_is_given_goes_before_the_recipe(finished, tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    model = finished.parent / "genotype.yaml"
    recipe.write_text(
        f"schema: 1\nmodel: {model}\ndata: digits\nepochs: 9\nimage_size: 8\nbatch_size: 256\nseed: 5\n"
    )
    out = tmp_path / "run"
    arguments = [
        "--config",
        str(recipe),
        "--epochs",
        "1",
        "--set",
        "optimizer.lr=0.001",
        "--out",
        str(out),
        "--quiet",
    ]
    assert call(capsys, "train", *arguments)[0] == 0
    text = (out / "config.yaml").read_text()
    assert "epochs: 1\n" in text
    assert "lr: 0.001\n" in text
    assert "seed: 5\n" in text
    recipe.write_text(f"schema: 1\nmodel: {model}\nepoch: 9\n")
    code, _, err = call(capsys, "train", "--config", str(recipe))
    assert code == 2
    assert str(recipe) in err
    assert "unknown key 'epoch'" in err


BAD_COMMANDS = {
    "nothing named": ([], "name what to train"),
    "unknown model": (["localvim_huge"], "localvim_tiny"),
    "unknown data": (["GENOTYPE", "--data", "mnist"], "allowed: digits"),
    "no data": (["localvim_tiny"], "give --data"),
    "setting of a wrong type": (["GENOTYPE", "--set", "epochs=ten"], "found 'ten'"),
    "unknown device": (["GENOTYPE", "--data", "digits", "--device", "tpu"], "allowed: auto, cpu, cuda"),
    "missing recipe": (["GENOTYPE", "--config", "none.yaml"], "none.yaml"),
    "folder without genotype": (["."], "holds no genotype.yaml"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_COMMANDS.values(), ids=BAD_COMMANDS.keys())
def test_bad_input_to_train_is_one_clear_line(arguments, message, finished, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [str(finished.parent / "genotype.yaml") if a == "GENOTYPE" else a for a in arguments]
    code, out, err = call(capsys, "train", *arguments)
    assert code == 2
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not out
    assert not list(tmp_path.iterdir())


def test_resume_takes_no_other_option_and_needs_a_training(finished, capsys):
    code, _, err = call(capsys, "train", "--resume", str(finished), "--epochs", "3")
    assert (code, "leave out --epochs" in err) == (2, True)
    code, _, err = call(capsys, "train", "--resume", str(finished.parent))
    assert (code, "holds no run" in err) == (2, True)


def test_the_options_of_train_evaluate_and_compare_are_these():
    """An option that appears or disappears is a decision: change this list with it."""
    from typer.main import get_command

    from scansearch.cli import app

    commands = get_command(app).commands
    found = {
        name: {option for parameter in commands[name].params for option in parameter.opts}
        for name in ("train", "evaluate", "compare")
    }
    assert found == {
        "train": {
            "model", "--data", "--config", "--epochs", "--batch-size", "--seed", "--out", "--device", "--set",
            "--resume", "--quiet",
        },
        "evaluate": {
            "subject", "--data", "--split", "--img-size", "--crop", "--batch-size", "--device", "--mixed-precision",
            "--workers", "--out",
        },
        "compare": {"runs", "--out", "--latency", "--device"},
    }  # fmt: skip


# --- broken images ---


def test_broken_images_are_skipped_counted_and_named(genotype, tmp_path):
    made_images(tmp_path / "train", ("a", "b"), 20)
    made_images(tmp_path / "val", ("a", "b"), 5)
    (tmp_path / "train" / "a" / "3.png").write_bytes(b"not a picture")
    whole = (tmp_path / "val" / "b" / "2.png").read_bytes()
    (tmp_path / "val" / "b" / "2.png").write_bytes(whole[: len(whole) // 2])
    options = {"data": f"folder:{tmp_path}", "epochs": 2, "batch_size": 8, "device": "cpu"}
    for workers in (0, 2):
        result = train(genotype, out=tmp_path / f"run{workers}", workers=workers, **options)
        named = {Path(record["image"]).name for record in result.run.metrics("broken")}
        assert named == {"3.png", "2.png"}
        assert (result.test.images, result.test.skipped) == (9, 1)
        assert "2.png" in (result.run.folder / "summary.md").read_text()
    assert Run(tmp_path / "run0").metrics("step") == Run(tmp_path / "run2").metrics("step")
    with pytest.raises(RunStopped, match=r"max_broken = 0 allows; the last: .*3\.png"):
        train(genotype, out=tmp_path / "strict", max_broken=0, **options)
    assert len(Run(tmp_path / "strict").metrics("broken")) == 1


def test_a_training_runs_under_torchrun(finished, tmp_path):
    """Two processes take one half each of the batches of one, and so learn nearly the same."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command += ["-m", "scansearch", "train", str(finished.parent / "genotype.yaml"), "--data", "digits"]
    command += ["--epochs", "1", "--batch-size", "256", "--set", "image_size=8", "--device", "cpu"]
    command += ["--set", "optimizer.name=sgd", "--set", "optimizer.lr=0.1", "--out", str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("test accuracy") == 1
    one = train(
        find_genotype(str(finished.parent / "genotype.yaml")),
        data="digits",
        out=tmp_path / "one",
        epochs=1,
        batch_size=256,
        image_size=8,
        device="cpu",
        optimizer={"name": "sgd", "lr": 0.1},
    )
    losses = [[record["loss"] for record in Run(tmp_path / name).metrics("step")] for name in ("one", "two")]
    assert losses[1][0] == pytest.approx(losses[0][0], abs=1e-4)
    assert losses[1] == pytest.approx(losses[0], abs=0.05)
    assert (
        one.test.images == json.loads((tmp_path / "two" / "result.json").read_text())["test"]["images"] == 360
    )
