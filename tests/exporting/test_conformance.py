"""What every export target must do with a small model of each family."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scansearch.errors import InputError
from scansearch.exporting import FORMATS, export
from scansearch.exporting.check import ExportMismatch


def name_for(format: str) -> str:
    """A file or folder name that ``format`` takes."""
    target = importlib.import_module(f"scansearch.exporting.targets.{FORMATS[format][0]}")
    return "my_model" + (target.SUFFIXES[0] if target.SUFFIXES else "")


@pytest.fixture(params=list(FORMATS))
def format(request: pytest.FixtureRequest) -> str:
    if request.param == "onnx" and importlib.util.find_spec("onnxscript") is None:
        pytest.skip("the extra onnx is not installed")
    return request.param


def test_a_target_says_what_it_makes(format: str) -> None:
    module, description = FORMATS[format]
    target = importlib.import_module(f"scansearch.exporting.targets.{module}")
    assert description
    assert target.__doc__
    assert target.export.__doc__
    assert all(suffix.startswith(".") for suffix in target.SUFFIXES)


# Formats that are traced or loaded in a process of their own take long: of each, one family is in the normal suite.
ONE_FAMILY = {"onnx": "local_vmamba", "torch-export": "local_vmamba", "timm": "local_vim"}


def both_families() -> Iterator[object]:
    for name in FORMATS:
        for family in ("local_vim", "local_vmamba"):
            normal = ONE_FAMILY.get(name, family) == family
            yield pytest.param(name, family, marks=[] if normal else [pytest.mark.long])


@pytest.mark.slow
@pytest.mark.parametrize(("format", "family"), list(both_families()), indirect=["format"])
def test_a_target_writes_what_it_says_and_nothing_beside(
    format: str, family: str, genotypes: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "deep" / name_for(format)  # the folder is made on the way
    done = export(genotypes[family], format, out, num_classes=4, in_chans=1)
    assert (done.out, done.format) == (out, format)
    assert 0 <= done.difference <= 1e-4
    assert [path.name for path in (tmp_path / "deep").iterdir()] == [out.name]
    files = [out] if out.is_file() else [path for path in out.rglob("*") if path.is_file()]
    assert files
    assert all(path.stat().st_size > 0 for path in files)


FULL = """
import resource, signal, sys
from scansearch.cli import main
from scansearch.exporting import export
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # a file that grows beyond fails as on a full disk
main(["export", *sys.argv[1:]])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
@pytest.mark.parametrize(
    "format",
    [name if name == "hub" else pytest.param(name, marks=pytest.mark.long) for name in FORMATS],
    indirect=True,
)
def test_a_full_disk_is_one_line_and_leaves_nothing(
    format: str, genotypes: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "temporary").mkdir()
    arguments = [
        str(genotypes["local_vim"]),
        "--format",
        format,
        "--out",
        str(tmp_path / "out" / name_for(format)),
    ]
    done = subprocess.run(
        [sys.executable, "-c", FULL, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TMPDIR": str(tmp_path / "temporary")},
    )
    assert done.returncode == 1, done.stderr
    assert "error: cannot write" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert [path for folder in ("out", "temporary") for path in (tmp_path / folder).iterdir()] == []


def test_a_wrong_name_is_refused_before_anything_is_made(
    format: str, genotypes: dict[str, Path], tmp_path: Path
) -> None:
    wrong = tmp_path / "model.wrong"
    if name_for(format) == "my_model":  # a folder: a file of that name is in the way
        wrong.write_text("mine")
    with pytest.raises(InputError, match="--out") as caught:
        export(genotypes["local_vim"], format, wrong)
    assert "\n" not in str(caught.value)
    assert [path.read_text() for path in tmp_path.iterdir()] == (["mine"] if wrong.exists() else [])


@pytest.mark.slow
@pytest.mark.parametrize(
    "format",
    [pytest.param(name, marks=[pytest.mark.long] if name in ("onnx", "timm") else []) for name in FORMATS],
    indirect=True,
)
def test_a_model_that_computes_something_else_leaves_nothing(
    format: str, genotypes: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every target runs what it wrote: logits of the source that are off by a little are noticed."""
    from scansearch.exporting.source import Source

    right = Source.logits
    monkeypatch.setattr(Source, "logits", lambda self, images: right(self, images) + 0.01)
    with pytest.raises(ExportMismatch):
        export(genotypes["local_vim"], format, tmp_path / name_for(format), num_classes=4, in_chans=1)
    assert list(tmp_path.iterdir()) == []
