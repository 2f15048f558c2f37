"""A weight file: the tensors, with genotype and arguments in the header."""

from __future__ import annotations

from pathlib import Path

from scansearch.exporting.check import compare, publish, staging
from scansearch.exporting.source import Source
from scansearch.records.weights import load_weights, save_weights

SUFFIXES = (".safetensors",)


def export(source: Source, out: Path) -> float:
    """Checked by building the model from nothing but the file."""
    with staging() as folder:
        staged = folder / "weights.safetensors"
        save_weights(staged, source.model, source.genotype, source.arguments, source.notes, source.treatment)
        model = load_weights(staged).model
        difference = compare(source, lambda images: model(images).detach(), tolerance=1e-6)
        publish(staged, out)
        return difference
