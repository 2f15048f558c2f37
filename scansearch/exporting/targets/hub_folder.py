"""A folder in timm's Hugging Face layout: config.json, model.safetensors, and a model card.

Upload it as a model repository, or read it from disk: ``import scansearch.models`` and then
``timm.create_model("local-dir:FOLDER", pretrained=True)``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import timm
import torch

from scansearch.costing.flops import model_costs
from scansearch.exporting.check import compare, publish_folder, staging
from scansearch.exporting.picture_settings import brightest, picture_settings
from scansearch.exporting.source import Source
from scansearch.models import CONFIGURATION
from scansearch.records.weights import save_weights
from scansearch.text import human, table_cell

if TYPE_CHECKING:
    from scansearch.models.backbone import ScanBackbone

SUFFIXES: tuple[str, ...] = ()


def export(source: Source, out: Path) -> float:
    """Checked by creating the model through timm from nothing but the folder."""
    with staging() as staged:
        (staged / "config.json").write_text(json.dumps(config(source), indent=2) + "\n", encoding="utf-8")
        (staged / "README.md").write_text(model_card(source), encoding="utf-8")
        save_weights(
            staged / "model.safetensors",
            source.model,
            source.genotype,
            source.arguments,
            source.notes,
            source.treatment,
        )
        model = timm.create_model(f"local-dir:{staged}", pretrained=True).eval()
        difference = compare(source, lambda images: model(images).detach(), tolerance=1e-6)
        publish_folder(staged, out)
        return difference


def config(source: Source) -> dict[str, Any]:
    """config.json: the architecture is the family, ``model_args`` give its directions and sizes."""
    model = source.model
    settings: dict[str, Any] = {
        **CONFIGURATION,
        "input_size": [model.in_chans, *source.image_size],
        "num_classes": model.num_classes,
        **picture_settings(source),
    }
    classes = source.treatment.classes if source.treatment is not None else ()
    digest = source.treatment.digest if source.treatment is not None else ""
    return {
        "architecture": source.genotype.family,
        "num_classes": model.num_classes,
        **({"label_names": list(classes)} if classes else {}),
        **({"images_digest": digest} if digest else {}),
        **brightest(source),
        "num_features": model.num_features,
        "global_pool": model.global_pool,
        "model_args": {
            "directions": [list(names) for names in source.genotype.layers],
            **source.all_arguments,
        },
        "pretrained_cfg": settings,
    }


def figures(source: Source) -> dict[str, str]:
    """What is known of the model, for the card: its sizes, and what its weight file and certificate tell."""
    height, width = source.image_size
    with torch.device("meta"):
        model = cast("ScanBackbone", source.genotype.build(**source.arguments))
    totals = model_costs(model, height, width).of(source.genotype.layers)
    rows = {
        "family": source.genotype.family,
        "genotype": source.genotype.hash,
        "parameters": f"{sum(p.numel() for p in source.model.parameters()):,}",
        "FLOPs": f"{human(totals['flops'])} an image (a multiply-add is two)",
        "image size": f"{height} x {width}, {source.model.in_chans} channels",
        "classes": str(source.model.num_classes),
        "weights": "from a training run"
        if source.weights is not None
        else f"fresh, seed {source.seed}: not trained",
    }
    if source.treatment is not None:
        rows["trained with"] = source.treatment.describe()
        rows["class names"] = _shown(source.treatment.classes)
    rows |= {str(key).replace("_", " "): _shown(value) for key, value in source.notes.items()}
    provenance = source.genotype.provenance.model_dump(exclude_none=True, exclude={"treatment"})
    rows |= {f"search: {key}": _shown(value) for key, value in provenance.items() if value}
    certificate = source.genotype.certificate
    if certificate is not None:
        rows["derivation"] = (
            f"{certificate.k} directions a layer, summed preference {certificate.objective:.4g} "
            f"of at most {certificate.bound:.4g}"
        )
    return rows


def model_card(source: Source) -> str:
    """README.md of the repository."""
    table = "\n".join(f"| {name} | {table_cell(value)} |" for name, value in figures(source).items())
    layers = "\n".join(
        f"| {index} | {' '.join(names)} |" for index, names in enumerate(source.genotype.layers)
    )
    channels, (height, width) = source.model.in_chans, source.image_size
    return f"""---
tags:
- image-classification
- timm
- state-space-model
library_name: timm
---
# {source.name}

A {type(source.model).__name__} image classifier whose scan directions were chosen per layer, made by scansearch.

| | |
|---|---|
{table}

## Scan directions

| layer | directions |
|---|---|
{layers}

## Use

```python
import timm, torch
import scansearch.models  # registers the family with timm

model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()  # or "hf-hub:USER/NAME"
logits = model(torch.zeros(1, {channels}, {height}, {width}))
```
"""


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(item)}" for key, item in value.items())
    return str(value)
