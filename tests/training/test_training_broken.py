"""Images that cannot be read are skipped, counted and named, by any number of processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.pictures import made_images
from support.trainings import tiny_genotype

from scansearch.errors import RunStopped
from scansearch.runs.folder import Run
from scansearch.runs.train_run import train


def test_broken_images_are_skipped_counted_and_named(tmp_path):
    made_images(tmp_path / "train", ("a", "b"), 20)
    made_images(tmp_path / "val", ("a", "b"), 5)
    (tmp_path / "train" / "a" / "3.png").write_bytes(b"not a picture")
    whole = (tmp_path / "val" / "b" / "2.png").read_bytes()
    (tmp_path / "val" / "b" / "2.png").write_bytes(whole[: len(whole) // 2])
    options = {"data": f"folder:{tmp_path}", "epochs": 2, "batch_size": 8, "device": "cpu"}
    for workers in (0, 2):
        result = train(tiny_genotype(), out=tmp_path / f"run{workers}", workers=workers, **options)
        named = {Path(record["image"]).name for record in result.run.metrics("broken")}
        assert named == {"3.png", "2.png"}
        assert (result.test.images, result.test.skipped) == (9, 1)
        assert "2.png" in (result.run.folder / "summary.md").read_text()
    assert Run(tmp_path / "run0").metrics("step") == Run(tmp_path / "run2").metrics("step")
    with pytest.raises(RunStopped, match=r"max_broken = 0 allows; the last: .*3\.png"):
        train(tiny_genotype(), out=tmp_path / "strict", max_broken=0, **options)
    assert len(Run(tmp_path / "strict").metrics("broken")) == 1


def images_of_which_two_are_broken(folder: Path) -> None:
    """Neighbours: each of two processes scores every second image, and so meets one of them."""
    made_images(folder / "train", ("a", "b"), 8)
    made_images(folder / "val", ("a", "b"), 6)
    for name in ("2", "3"):
        (folder / "val" / "b" / f"{name}.png").write_bytes(b"not a picture")
    tiny_genotype().save(folder / "genotype.yaml")


def under_torchrun(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """`scansearch train` of the genotype in ``folder`` on the images there, by two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command += ["-m", "scansearch", "train", str(folder / "genotype.yaml"), "--data", f"folder:{folder}"]
    command += ["--epochs", "1", "--batch-size", "8", "--device", "cpu", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


@pytest.mark.long
def test_every_process_names_the_images_that_it_had_to_skip(tmp_path):
    images_of_which_two_are_broken(tmp_path)
    done = under_torchrun(tmp_path, "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr[-2000:]
    records = Run(tmp_path / "run").metrics("broken")
    assert sorted(Path(record["image"]).name for record in records) == ["2.png", "3.png"]
    test = json.loads((tmp_path / "run" / "result.json").read_text())["test"]
    assert (test["images"], test["skipped"]) == (10, 2)


@pytest.mark.long
def test_the_limit_on_broken_images_counts_those_of_all_processes(tmp_path):
    images_of_which_two_are_broken(tmp_path)
    strict = under_torchrun(tmp_path, "--out", str(tmp_path / "strict"), "--set", "max_broken=1")
    assert strict.returncode != 0
    assert "more images cannot be read than max_broken = 1 allows" in strict.stderr
    assert len(Run(tmp_path / "strict").metrics("broken")) == 2
