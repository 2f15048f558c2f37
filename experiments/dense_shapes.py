"""How well does a searched micro model segment and detect drawn shapes, at what cost? results/dense_shapes.{csv,md}.

    python experiments/dense_shapes.py --seeds 3

Trains genotype-s1 of vim8-digits by the recipes segment_shapes and detect_shapes, and by the same on shapes that are
not plain, each in a process of its own on one thread. CPU seconds are of the whole process: start, training, scores
and pictures. One line per training is appended; resumable. The page is written anew at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas
from jobs import append_line, one_thread_each, whole_lines

from scansearch.files.atomic import write_text

FOLDER = Path(__file__).resolve().parent
TABLE, PAGE = FOLDER / "results" / "dense_shapes.csv", FOLDER / "results" / "dense_shapes.md"
MODEL = FOLDER / "results" / "vim8-digits" / "genotype-s1.yaml"
HEADER = "task,data,seed,score,box_ap,cpu_seconds"
DATA = ("shapes:64x64:256:plain", "shapes:64x64:256")
SCORES = {"segment": "miou", "detect": "mask_ap"}

HEAD = """# Drawn shapes: segmentation and detection by a micro model

Genotype [vim8-digits/genotype-s1](vim8-digits/genotype-s1.yaml) (three layers, width 32, patches of 4 pixels), from
scratch by [segment_shapes](../recipes/segment_shapes.yaml) and [detect_shapes](../recipes/detect_shapes.yaml), scored
on 64 test pictures. One thread; CPU seconds are of the whole process, kernels being compiled already. Mean over the
seeds, and the range.

    python experiments/dense_shapes.py --seeds 3

| data | mIoU (%) | CPU s | box AP (%) | mask AP (%) | CPU s |
| --- | --- | --- | --- | --- | --- |"""
FOOT = """
Plain shapes (`shapes:HxW:count:plain`) stand upright, whole and apart from each other, bright on a dark background. The
others are turned at random, cover each other and have any colour on any background: there the same model, recipe and
time do little better than finding that something is there. Tried beforehand on those others, once each:

* segmentation: batches of 2 and 8, learning rates of 3e-3 to 1e-2, upright shapes, LocalVMamba with the cross-scan:
  mIoU 25 to 29 % after 10 to 21 CPU seconds;
* detection with width 64, 512 pictures, 1,024 steps of 2 and 97 CPU seconds: box AP 26 %, mask AP 25 %, and 45 % for
  masks without regard to classes.

What is missing is the class: a micro model does not learn it from outlines at any angle within a minute."""


def train(task: str, data: str, seed: int) -> str:
    """One line of the table: scores of the test pictures in percent."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        command = [
            sys.executable,
            "-m",
            "scansearch",
            "train",
            str(MODEL),
            "--data",
            data,
            "--seed",
            str(seed),
        ]
        command += ["--config", str(FOLDER / "recipes" / f"{task}_shapes.yaml"), "--out", str(run), "--quiet"]
        subprocess.run([*command, "--device", "cpu"], check=True, stdout=subprocess.DEVNULL, env=os.environ)
        test = json.loads((run / "result.json").read_text())["test"]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    box = f"{test['box_ap']:.2f}" if task == "detect" else ""
    return f"{task},{data},{seed},{test[SCORES[task]]:.2f},{box},{seconds:.1f}"


def page(table: pandas.DataFrame) -> str:
    """The table as Markdown: means over the seeds, with the range."""
    lines = [HEAD]
    for data in DATA:
        cells = [f"`{data}`"]
        for task, columns in (("segment", ("score",)), ("detect", ("box_ap", "score"))):
            rows = table[(table.task == task) & (table.data == data)]
            for column in (*columns, "cpu_seconds"):
                values = rows[column].astype(float)
                cells.append(f"{values.mean():.1f} ({values.min():.1f} to {values.max():.1f})")
        lines.append(f"| {' | '.join(cells)} |")
    lines.append(FOOT)
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    one_thread_each()
    done = {tuple(line.split(",")[:3]) for line in whole_lines(TABLE)[1:]}
    for seed in range(arguments.seeds):
        for data in DATA:
            for task in SCORES:
                if (task, data, str(seed)) not in done:
                    append_line(TABLE, train(task, data, seed), HEADER)
    write_text(PAGE, page(pandas.read_csv(TABLE)))


if __name__ == "__main__":
    main()
