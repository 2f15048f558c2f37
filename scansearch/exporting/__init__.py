"""Exporters: a genotype, or a trained model, as files that others can use, with or without scansearch.

Each target is one module with ``SUFFIXES`` (of the file; none for a folder) and ``export(source, out) -> float``,
which makes the files aside, runs them, compares their logits with the source model's on random images, and only
then moves them to ``out``; it returns the largest difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from scansearch.errors import InputError

# Format: module, and what it makes.
FORMATS = {
    "yaml": ("genotype_yaml", "the canonical genotype"),
    "timm": ("timm_module", "a Python module that registers the model with timm; needs scansearch"),
    "standalone": ("standalone_file", "one Python file with the model; needs torch alone"),
    "safetensors": ("weight_file", "weights, with the genotype in the header"),
    "torch-export": ("torch_program", "a .pt2 program of any batch size; needs torch alone"),
    "onnx": ("onnx_graph", "an ONNX graph of any batch size"),
    "hub": ("hub_folder", "a folder in timm's Hugging Face layout, with a model card"),
}


@dataclass(frozen=True)
class Exported:
    """What was written, and how far its logits are from the source model's (in units of the largest, or 1)."""

    out: Path
    format: str
    name: str
    weights: str
    difference: float


def export(
    subject: str | Path,
    format: str,
    out: str | Path,
    *,
    weights: str | Path | None = None,
    seed: int = 0,
    num_classes: int | None = None,
    in_chans: int | None = None,
    img_size: int | None = None,
    name: str | None = None,
) -> Exported:
    """Write ``subject`` to ``out`` in one of ``FORMATS``, checked against the source model.

    Args:
        subject, weights, seed, num_classes, in_chans, img_size: see :func:`scansearch.exporting.source.load_source`.
        name: what the model is called in formats that name it; None for the file's name (timm) or a made one.

    Raises:
        InputError: an unknown format, a subject that cannot be exported to it, or a missing optional package.
        ExportMismatch: the exported model gives other logits; no file is left.
    """
    from scansearch.exporting.check import prepare
    from scansearch.exporting.source import load_source

    out = Path(out)
    if format not in FORMATS:
        raise InputError(f"unknown format {format!r} (allowed: {', '.join(FORMATS)})")
    target = import_module(f"scansearch.exporting.targets.{FORMATS[format][0]}")
    prepare(out, target.SUFFIXES)
    if name is None and format == "timm":
        name = out.stem
    source = load_source(
        subject,
        weights=weights,
        seed=seed,
        num_classes=num_classes,
        in_chans=in_chans,
        img_size=img_size,
        name=name,
    )
    difference: float = target.export(source, out)
    return Exported(out, format, source.name, source.describe_weights(), difference)
