"""Shared by the steps: where results go, how much time is left, results that survive a kill."""

import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from scansearch_kernels.gpu.launch import interpreted

OUT = Path(os.environ.get("DEVICE_OUT", "device-results"))
DRY = interpreted()  # no GPU: Triton's interpreter and tiny sizes
DEVICE = "cpu" if DRY else "cuda"
LIMIT = float(os.environ.get("DEVICE_STEP_SECONDS", "120"))
_BEGAN = time.monotonic()


def left() -> float:
    """Seconds until this step should end by itself."""
    return LIMIT - (time.monotonic() - _BEGAN)


def name_of_device() -> str:
    """The card's name, or what stands in for one."""
    return "Triton's interpreter" if DRY else torch.cuda.get_device_name()


def synchronize() -> None:
    """Wait for the card, where there is one."""
    if not DRY:
        torch.cuda.synchronize()


class Log:
    """A list of rows in a JSON file that is written anew after each."""

    def __init__(self, name: str, **head: Any) -> None:
        self.path = OUT / f"{name}.json"
        self.head = {"device": name_of_device(), "torch": torch.__version__, **head}
        self.rows: list[dict[str, Any]] = []

    def add(self, **row: Any) -> None:
        """Keep and print one row."""
        self.rows.append(row)
        OUT.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".part")
        temporary.write_text(json.dumps({**self.head, "rows": self.rows}, indent=1, default=str) + "\n")
        temporary.replace(self.path)
        print(" ".join(f"{key}={_short(value)}" for key, value in row.items())[:300], flush=True)

    def failed(self, error: Exception, **row: Any) -> None:
        """Keep an error as a row; a CUDA error ends the step, since nothing after it can be trusted."""
        self.add(**row, ok=False, error=f"{type(error).__name__}: {error}"[:600])
        if "CUDA error" in str(error) and "capture" not in str(error):
            raise SystemExit(3) from error


def _short(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value
