"""What README.md shows works: its Python block, and every command, as it is written.

A command is parsed with all its options. Those that take seconds on a tiny run are run; the others are named here with
the reason and the place of the test that covers them. A command that the README gains needs a line in one of the two.
"""

from __future__ import annotations

import re
import shlex
from functools import partial
from pathlib import Path

import pytest
from support.commands import call
from support.shown_commands import shown_commands, understand
from support.tiny import TINY_SPACE

import scansearch
from scansearch.cli import main
from scansearch.files.strict import dump_yaml

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SHOWN = shown_commands(TEXT)

# Options that make a command short; a later option goes before an earlier one.
SHORT = ["--epochs", "1", "--batch-size", "256", "--set", "image_size=8", "--device", "cpu", "--quiet"]
RUN = {
    "scansearch run --space vim8 --k 4": [*SHORT, "--set", "evolution.evaluations=4"],
    "scansearch run --resume runs/...": ["--quiet"],
    "scansearch train runs/NAME": ["--data", "digits", *SHORT, "--out", "trained-again"],
    "scansearch train random:1 --space vim8 --k 4 --data digits": [
        *SHORT,
        *("--out", "trained-random"),
    ],
    "scansearch train timm:deit_tiny_patch16_224 --data digits --image-size 32": [
        *("--epochs", "1", "--batch-size", "512", "--device", "cpu", "--quiet", "--out", "trained-deit"),
    ],
    "scansearch evaluate runs/TRAINED": ["--device", "cpu"],
    "scansearch derive runs/A runs/B --k 3": [],
    "scansearch export runs/TRAINED --format standalone --out model.py": [],
    "scansearch list": [],
    "scansearch show runs/NAME": [],
    "scansearch doctor": [],
    "scansearch compare runs/*": [],
    "scansearch evolve runs/NAME": ["--evaluations", "4"],
    "scansearch rank runs/NAME --samples 10": ["--samples", "3", "--trainings", "1", "--steps", "2"],
    "scansearch probe --data digits": [
        *("--space", "tiny-test.yaml", "--k", "1", "--genotypes", "3", "--steps", "2", "--out", "probed"),
    ],
    "scansearch costs vim8 --variant tiny": [],
    "scansearch costs runs/NAME": [],
    "scansearch plot runs/NAME": [],
    "scansearch plot runs/A runs/B --kind agreement": [],
    "scansearch published --task segment": [],
}
NOT_RUN = {
    "make run": "an environment of its own: .ci/run",
    "make test": "it is what runs this test",
    "python3 -m venv .venv": "an environment of its own: .ci/run",
    "pip install -e .": "an environment of its own: .ci/run",
    "pip install -e '.[onnx]'": "changes the environment",
    "scansearch train runs/NAME --weights runs/TRAINED --data folder:PATH": "needs pictures: "
    "tests/training/test_initial_weights.py starts from weights",
    "scansearch train runs/NAME --task segment --data masks:PATH": "needs pictures with masks: "
    "tests/cli/test_segment_command.py trains on drawn ones",
    "scansearch train runs/NAME --task detect --data coco:PATH": "needs pictures with objects: "
    "tests/cli/test_detect_command.py trains on drawn ones and on files of COCO's form",
    "scansearch predict runs/TRAINED IMAGES": "needs pictures: tests/evaluation/test_loading.py",
    "scansearch convert CHECKPOINT --model localvim_tiny --out FILE.safetensors": "needs the released weights: "
    "tests/models/test_checkpoints.py makes files like them",
    "scansearch run --data folder:PATH --variant tiny --k 4": "needs pictures and hours: tests/data and "
    "tests/training/test_recipes.py read folders and do two steps",
    "torchrun --nproc_per_node N -m scansearch run ...": "several processes: tests/searching/test_distributed.py",
    "scansearch probe --data DATA": "names the command, which is run above",
    "scansearch run --verify 5": "five trainings: tests/runs/test_verification.py does them on a tiny run",
    "scansearch bench standalone": "minutes, and figures of a quiet machine only: tests/bench",
    "scansearch bench kernels": "minutes, and figures of a quiet machine only: tests/kernels",
    "scansearch convert": "names the command, which is shown in full above",
    "scansearch rank": "names the command, which is shown in full above",
}


def test_every_command_of_the_readme_is_run_or_says_why_not() -> None:
    assert set(SHOWN) == set(RUN) | set(NOT_RUN)
    assert not set(RUN) & set(NOT_RUN)


@pytest.mark.parametrize("command", [c for c in SHOWN if c.startswith("scansearch ")])
def test_a_shown_command_is_understood(command: str) -> None:
    """Command, arguments and options exist; nothing runs."""
    understand(command)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished searches and a training of the tiny space, below ``runs`` as the README has them."""
    base = tmp_path_factory.mktemp("readme")
    (base / "tiny-test.yaml").write_text(dump_yaml(TINY_SPACE))
    options = "--epochs 1 --batch-size 256 --set image_size=8 --device cpu --quiet"
    jobs = [
        f"run --space {base}/tiny-test.yaml --k 2 --seed {s} --out {base}/runs/search-{s}" for s in (0, 1)
    ]
    jobs.append(f"train {base}/runs/search-0 --data digits --out {base}/runs/trained")
    for job in jobs:
        with pytest.raises(SystemExit) as stop:
            main(f"{job} {options}".split())
        assert not stop.value.code
    return base


@pytest.mark.slow
@pytest.mark.parametrize("command", RUN)
def test_a_shown_command_runs(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    names = {
        "runs/NAME": ["runs/search-0"],
        "runs/A": ["runs/search-0"],
        "runs/B": ["runs/search-1"],
        "runs/...": ["runs/search-1"],
        "runs/TRAINED": ["runs/trained"],
        "runs/*": sorted(f"runs/{path.name}" for path in (folder / "runs").iterdir()),
    }
    arguments = [part for word in shlex.split(command)[1:] for part in names.get(word, [word])]
    code, out, err = call(capsys, *arguments, *RUN[command])
    assert code == 0, err
    assert "Traceback" not in err
    assert (out + err).strip() or "--quiet" in RUN[command]


@pytest.mark.slow
def test_the_python_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As written; only the search takes one epoch where its default is more."""
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        scansearch, "search", partial(scansearch.search, epochs=1, batch_size=128), raising=False
    )
    names: dict = {}
    exec(compile(block, "README.md", "exec"), names)
    assert {len(layer) for layer in names["genotype"].layers} == {4}
    assert names["genotype"].space == names["space"].name == "vim8"
    assert names["model"].num_classes == 5
    assert len(list((tmp_path / "runs").iterdir())) == 1
