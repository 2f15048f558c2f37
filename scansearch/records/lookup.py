"""What a name stands for."""

from __future__ import annotations

from pathlib import Path

from scansearch.errors import InputError
from scansearch.records.genotype import Genotype
from scansearch.records.provenance import Provenance


def find_genotype(model: str) -> Genotype:
    """The genotype that ``model`` names: a registered model, a genotype file, or a run folder.

    Raises:
        InputError: none of these.
    """
    from scansearch.models.published import PUBLISHED

    if model in PUBLISHED:
        published = PUBLISHED[model]
        return Genotype.model_validate(
            {
                "family": published.family,
                "layers": published.layers,
                "model": published.arguments,
                "provenance": Provenance(note=f"registered model {model}: {published.summary}"),
            }
        )
    path = Path(model)
    if path.is_dir():
        if not (path / "genotype.yaml").is_file():
            raise InputError(
                f"folder {model!r} holds no genotype.yaml: its search has not finished, or it is no run"
            )
        path = path / "genotype.yaml"
    if not path.is_file():
        raise InputError(
            f"{model!r} is no genotype file, run folder or registered model (the latter: {', '.join(PUBLISHED)})"
        )
    return Genotype.load(path)
