"""Genotypes of two layers that no search chose, for comparisons on `vim8-bench`."""

from __future__ import annotations

from collections import Counter

from scansearch.directions import Layers
from scansearch.models.published import LOCALVIM_SEARCHED
from scansearch.records.space import load_space

CANDIDATES = load_space("vim8-bench").layer_candidates()[0]
V = ("v", "v_flip")


def contains_v(layers: Layers) -> bool:
    """Whether any layer scans down the columns, which explains most of the differences on this task."""
    return any(name in V for layer in layers for name in layer)


def published_cut(k: int) -> Layers:
    """LocalVim-T's published genotype in two layers: the ``k`` directions most frequent in each half of its depth."""
    half = len(LOCALVIM_SEARCHED) // 2
    layers = []
    for part in (LOCALVIM_SEARCHED[:half], LOCALVIM_SEARCHED[half:]):
        counts = Counter(name for layer in part for name in layer)
        often = sorted(CANDIDATES, key=lambda name: (-counts[name], CANDIDATES.index(name)))[:k]
        layers.append(tuple(sorted(often, key=CANDIDATES.index)))
    return tuple(layers)


def fixed(k: int) -> dict[str, Layers]:
    """Name -> genotype for k = 1 or 2."""
    raster, hand_made = {
        1: ((("h",), ("h",)), (("h",), ("w2",))),
        2: ((("h", "h_flip"), ("h", "h_flip")), (("h", "h_flip"), ("w2", "w2_flip"))),
    }[k]
    return {"all raster": raster, "hand-made dealt out": hand_made, "published cut to size": published_cut(k)}


# What `sample_genotypes` drew for seed 0 when the table of k = 2 was trained; its random numbers have changed since.
DRAWN_BEFORE = (
    "v+w2 - v+w7",
    "v+v_flip - w2+w2_flip",
    "h_flip+v - w2+w7_flip",
    "h+h_flip - w2_flip+w7_flip",
    "w7+w7_flip - v+w7",
    "v_flip+w7_flip - v+v_flip",
    "h_flip+w7 - v_flip+w7",
    "w2_flip+w7 - v_flip+w7_flip",
    "v+w2_flip - v+w2",
    "v+w2_flip - h+v_flip",
    "v+w7_flip - h+h_flip",
    "w2_flip+w7_flip - w2_flip+w7",
)


def drawn() -> list[Layers]:
    """Twelve different genotypes with two directions a layer, every one equally likely."""
    return [tuple(tuple(layer.split("+")) for layer in name.split(" - ")) for name in DRAWN_BEFORE]


def text(layers: Layers) -> str:
    """``h+v - w2+w7``."""
    return " - ".join("+".join(layer) for layer in layers)
