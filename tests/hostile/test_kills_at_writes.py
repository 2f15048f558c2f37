"""Killed at any rename or flush, every command leaves what can be gone on with, or a place that is free again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "support" / "kills.py"
QUICK = ["--epochs", "1", "--batch-size", "512", "--device", "cpu", "--quiet"]


def cases(finished: Path) -> dict[str, dict[str, Any]]:
    search, training = str(finished / "search"), str(finished / "training")
    run = ["run", "--space", str(finished / "tiny-test.yaml"), "--k", "2", "--out", "{out}", *QUICK]
    train = ["train", search, "--out", "{out}", "--set", "schedule.warmup_epochs=0", *QUICK]
    derive = ["derive", search, "--k", "1", "--out", "{out}.yaml"]
    hub = ["export", training, "--format", "hub", "--out", "{out}"]
    weights = ["export", training, "--format", "safetensors", "--out", "{out}.safetensors"]
    rank = ["rank", "{out}", "--samples", "3", "--steps", "1", "--out", "{out}.json"]
    evolve = ["evolve", "{out}", "--evaluations", "3", "--out", "{out}.yaml"]

    def case(command: list[str], result: str, *first: list[str], copy: str | None = None) -> dict[str, Any]:
        return {"command": command, "again": [*first, command], "result": result, "copy": copy}

    return {
        "run": case(run, "{out}/genotype.yaml", ["run", "--resume", "{out}", "--quiet"]),
        "train": case(train, "{out}/best.safetensors", ["train", "--resume", "{out}", "--quiet"]),
        "derive": case(derive, "{out}.yaml"),
        "hub": case(hub, "{out}/model.safetensors"),
        "weights": case(weights, "{out}.safetensors"),
        "rank": case(rank, "{out}.json", copy=search),
        "evolve": case(evolve, "{out}-1.yaml", copy=search),
    }


def check(finished: Path, folder: Path, names: set[str]) -> None:
    chosen = {name: case for name, case in cases(finished).items() if name in names}
    (folder / "cases.json").write_text(json.dumps(chosen))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), str(folder / "cases.json")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TMPDIR": str(folder / "tmp")},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["case"] for row in rows} == names
    for row in rows:
        assert row["killed"], row
        # Killed after its last rename, an export is whole, and a folder that holds something is not overwritten.
        assert row["tried"][-1][0] == 0 or (row["case"] == "hub" and row["same"]), row
        # A claim that died with its process counts as a proposal, so another sub-network may be tried for it.
        assert row["same"] or row["case"] == "evolve", row
        assert not row["left"], row
    # What was staged is removed by the next export; after the last kill of all, hub refuses to start one.
    assert len(list((folder / "tmp").iterdir())) <= (names == {"hub"})


@pytest.mark.long
def test_a_killed_derive_can_be_repeated(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    check(finished, tmp_path, {"derive"})


@pytest.mark.long
@pytest.mark.parametrize("command", ["run", "train", "evolve", "rank", "hub", "weights"])
def test_what_is_killed_goes_on_or_leaves_its_place_free(
    command: str, finished: Path, tmp_path: Path
) -> None:
    (tmp_path / "tmp").mkdir()
    check(finished, tmp_path, {command})
