"""The canonical genotype file."""

from __future__ import annotations

from pathlib import Path

from scansearch.exporting.check import ExportMismatch, compare, publish, staging
from scansearch.exporting.source import Source
from scansearch.records.genotype import Genotype

SUFFIXES = (".yaml", ".yml")


def export(source: Source, out: Path) -> float:
    """Checked by reading it back and building the model anew."""
    with staging() as folder:
        staged = folder / "genotype.yaml"
        staged.write_text(source.genotype.to_yaml(), encoding="utf-8")
        read = Genotype.load(staged)
        if read != source.genotype or read.to_yaml() != source.genotype.to_yaml():
            raise ExportMismatch(f"genotype {source.genotype.hash} does not survive its own file")
        model = read.build(**source.arguments).eval()
        model.load_state_dict(source.model.state_dict())
        difference = compare(source, lambda images: model(images).detach(), tolerance=1e-6)
        publish(staged, out)
        return difference
