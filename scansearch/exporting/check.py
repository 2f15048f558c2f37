"""What every target needs: the check against the source model, a child process for it, and atomic folders."""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from scansearch.errors import RunStopped
from scansearch.files import temporary
from scansearch.files.atomic import new_folder, write_bytes

if TYPE_CHECKING:
    from torch import Tensor

    from scansearch.exporting.source import Source

Predict = Callable[["Tensor"], "Tensor"]


class ExportMismatch(RunStopped):
    """The exported model does not do what the source model does; nothing was left behind."""


def compare(source: Source, predict: Predict, *, tolerance: float, batches: tuple[int, ...] = (2,)) -> float:
    """Largest difference of ``predict(images)`` from the source's logits on random images.

    ``tolerance`` is in units of the largest logit, or of 1 where that is smaller.

    Raises:
        ExportMismatch: a difference above the tolerance, another shape, or logits that are not finite.
    """
    worst = 0.0
    for batch in batches:
        images = source.images(batch)
        expected, logits = source.logits(images), predict(images)
        if not expected.isfinite().all():
            raise ExportMismatch(f"{source.name}: the source model's own logits are not finite")
        if logits.shape != expected.shape:
            raise ExportMismatch(
                f"{source.name}: the export gives {list(logits.shape)}, the model {list(expected.shape)}"
            )
        difference = float((logits - expected).abs().max()) / max(1.0, float(expected.abs().max()))
        if not difference <= tolerance:  # so that nan fails too
            raise ExportMismatch(
                f"{source.name}: the export's logits differ by {difference:.2g}, allowed are {tolerance:.0e}"
            )
        worst = max(worst, difference)
    return worst


def run_child(script: str, folder: Path, *arguments: str) -> None:
    """Run Python code in a process of its own, in ``folder``.

    Raises:
        ExportMismatch: it failed; the message is the last line of its error output.
    """
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ExportMismatch(f"the exported file does not run: {lines[-1]}")


def given(source: Source, images: Tensor) -> bytes:
    """Weights and images for a child process, as ``torch.save`` writes them.

    Made in memory: where a disk is full, torch's writer of files ends the process.
    """
    import torch

    buffer = io.BytesIO()
    torch.save({"state": source.model.state_dict(), "images": images}, buffer)
    return buffer.getvalue()


@contextmanager
def staging() -> Iterator[Path]:
    """A folder for files that are still to be checked; gone afterwards, and those of killed processes with it.

    Raises:
        RunStopped: it cannot be made, or what the block writes there finds no room.
    """
    parent = Path(tempfile.gettempdir())
    folder = None
    try:
        folder = temporary.new_folder(parent, "scansearch-export")
        yield folder
    except OSError as error:
        raise RunStopped(f"cannot write below {str(parent)!r}: {error.strerror or error}") from error
    finally:
        if folder is not None:
            temporary.done(folder)


def publish(staged: Path, out: Path) -> None:
    """Put the checked file ``staged`` at ``out``, atomically."""
    write_bytes(out, staged.read_bytes())


def publish_folder(staged: Path, out: Path) -> None:
    """Put the checked files of ``staged`` at the new folder ``out``, all at once.

    Raises:
        RunStopped: the folder cannot be written.
    """
    try:
        with new_folder(out) as made:
            for path in sorted(staged.iterdir()):
                write_bytes(made / path.name, path.read_bytes())
    except OSError as error:
        raise RunStopped(f"cannot write {str(out)!r}: {error.strerror or error}") from error
