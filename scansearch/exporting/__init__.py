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
from scansearch.text import choices

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
    img_size: int | tuple[int, int] | None = None,
    name: str | None = None,
) -> Exported:
    """Write a model in another form, and check that it computes the same: what ``scansearch export`` does.

        scansearch.export("runs/TRAINED", "standalone", "model.py")

    Args:
        subject: a run folder (with its best weights where it has any), a genotype file, a weight file, or the
            name of a published model.
        format: ``yaml``, ``timm``, ``standalone``, ``safetensors``, ``torch-export``, ``onnx`` or ``hub``.
        out: the file to write, with the format's ending; for ``hub`` a new or an empty folder.
        weights: a weight file, or a plain checkpoint in our layout; None for the subject's, else fresh weights.
        seed: of fresh weights, and of the random images of the check.
        num_classes, in_chans, img_size: of the model; None for the weights' own, else 1000, 3 and the genotype's.
        name: what the model is called in formats that name it; None for the file's name (timm) or a made one.

    Returns:
        what was written, and the largest difference between its logits and the source model's.

    Raises:
        InputError: an unknown format, a subject that cannot be exported to it, or a missing optional package.
        ExportMismatch: the exported model gives other logits; no file is left.
    """
    from scansearch.exporting.source import SourceOptions, load_source
    from scansearch.files.outputs import check_file, check_folder, make_folder

    out = Path(out)
    if format not in FORMATS:
        raise InputError(f"unknown format {format!r} {choices(format, FORMATS)}")
    target = import_module(f"scansearch.exporting.targets.{FORMATS[format][0]}")
    if target.SUFFIXES:
        check_file(out, target.SUFFIXES)
    else:
        check_folder(out, fresh=True)
    if name is None and format == "timm":
        name = out.stem
    options = SourceOptions(weights, seed, num_classes, in_chans, img_size, name)
    source = load_source(subject, options)
    make_folder(out.parent)
    difference: float = target.export(source, out)
    return Exported(out, format, source.name, source.describe_weights(), difference)
