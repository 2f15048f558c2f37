"""Provenance: where a genotype or preferences came from."""

from __future__ import annotations

from scansearch.data.treatment import Treatment
from scansearch.files.strict import Integers, StrictModel, Strings


class Provenance(StrictModel):
    """Where a genotype came from. Everything is optional: a hand-made genotype has none."""

    strategy: str | None = None
    selection: str | None = None
    data: str | None = None
    treatment: Treatment | None = None
    seeds: Integers = ()
    epochs: int | None = None
    runs: Strings = ()
    scansearch: str | None = None
    note: str | None = None
