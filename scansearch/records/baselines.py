"""Genotypes that no search chose: ``random:SEED`` and ``uniform:DIRECTIONS``, to compare a search with."""

from __future__ import annotations

import re

from scansearch.directions.scan_sets import SCAN_SETS, uniform_directions
from scansearch.errors import InputError
from scansearch.records.equal_scans import merge_equal_scans
from scansearch.records.genotype import Genotype
from scansearch.records.provenance import Provenance
from scansearch.records.space import SearchSpace, load_space
from scansearch.seeding import Stream, generate
from scansearch.text import nearest

KINDS = ("random", "uniform")
FORMS = "random:SEED, uniform:DIRECTION,DIRECTION or uniform:SET"


def is_baseline(name: str) -> bool:
    """Whether ``name`` has the form of a baseline; a file of that name is meant as ``./random:1``."""
    return name.partition(":")[0] in KINDS and ":" in name


def baseline_genotype(
    name: str, space: SearchSpace | str, *, k: int | None = None, variant: str | None = None
) -> Genotype:
    """The baseline called ``name``, with the sizes of the derived model of ``space``.

    Args:
        name: ``random:SEED`` draws ``k`` directions for each layer, every choice equally likely, scans that are one
            on the layer's grid counted once; ``uniform:h,v_flip`` or ``uniform:vmamba4`` gives every layer the same
            directions, candidates of the space or not.
        space: a search space, its name, or its file.
        k: directions per layer; for ``random`` only.
        variant: of the space; None for its default.

    Raises:
        InputError: another name, an unknown space or variant, or ``k`` missing, out of range or not wanted.
    """
    kind, _, argument = name.partition(":")
    if kind not in KINDS or not argument:
        near = nearest(kind, KINDS)
        hint = "" if near in (None, kind) else f"did you mean {near!r}? "
        raise InputError(f"unknown baseline {name!r} ({hint}allowed: {FORMS}; sets: {', '.join(SCAN_SETS)})")
    space = space if isinstance(space, SearchSpace) else load_space(space)
    variant = variant or space.default_variant
    space.variant(variant)
    provenance = Provenance(note=f"baseline {name} of {space.name}/{variant}")
    if kind == "random":
        return _random(argument, space, variant, k, provenance)
    if k is not None:
        raise InputError(f"{name!r} says its directions: leave out k")
    directions = uniform_directions(argument)
    candidates = space.layer_candidates(variant)
    layers = (directions,) * len(candidates)
    if any(set(directions) - set(names) for names in candidates):
        space = space.model_copy(update={"name": f"{space.name}-uniform", "candidates": layers, "merged": ()})
    return Genotype.of_space(space, layers, variant=variant, provenance=provenance)


def _random(text: str, space: SearchSpace, variant: str, k: int | None, provenance: Provenance) -> Genotype:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise InputError(f"random:{text}: the seed must be a whole number from 0, of at most nine digits")
    merged = merge_equal_scans(space, variant)
    candidates = merged.layer_candidates(variant)
    fewest = min(map(len, candidates))
    if k is None:
        raise InputError(f"random:{text} needs k, the directions per layer (1 to {fewest})")
    if not 1 <= k <= fewest:
        raise InputError(f"k is {k}, but a layer of {space.name}/{variant} has {fewest} different scans")
    generator = generate(Stream.GENOTYPES, int(text), 2)
    layers = [sorted(generator.permutation(len(names))[:k].tolist()) for names in candidates]
    chosen = [[names[index] for index in layer] for names, layer in zip(candidates, layers, strict=True)]
    return Genotype.of_space(space, chosen, variant=variant, provenance=provenance)
