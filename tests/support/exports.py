"""A run folder to export from."""

from __future__ import annotations

from pathlib import Path

import torch

from scansearch.exporting.source import Source, SourceOptions, load_source
from scansearch.records.weights import save_weights

SIZES = {"num_classes": 4, "in_chans": 1}


def trained(genotypes: dict[str, Path], family: str, folder: Path) -> tuple[Path, Source]:
    """A run folder as a training leaves it, with weights that no seed gives."""
    source = load_source(genotypes[family], SourceOptions(seed=5, **SIZES))
    with torch.no_grad():
        for parameter in source.model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    folder.mkdir(exist_ok=True)
    source.genotype.save(folder / "genotype.yaml")
    notes = {"data": "digits", "validation_accuracy": 87.5}
    save_weights(folder / "best.safetensors", source.model, source.genotype, source.arguments, notes)
    return folder, source
