"""``scansearch derive``: another genotype from finished or interrupted runs, without searching again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scansearch.cli.options import (
    AsJson,
    KMax,
    KMin,
    MaxFlops,
    MaxParams,
    Measure,
    k_option,
    option,
)
from scansearch.errors import InputError

if TYPE_CHECKING:
    from scansearch.records.genotype import Genotype
    from scansearch.records.preferences import Preferences

Sources = Annotated[
    list[Path],
    typer.Argument(help="Run folders or preferences.json files; several are averaged.", metavar="RUN..."),
]
K = Annotated[int | None, k_option()]
LayerK = Annotated[list[str] | None, option("--layer-k", help="LAYER:K for one layer, from 0; repeatable")]
MaxLatency = Annotated[float | None, option("--max-latency-ms", help="Budget in milliseconds per image")]
CostFile = Annotated[
    Path | None, option("--costs", help="Costs file", default="costs.json of the first run that has one")
]
Require = Annotated[
    list[str] | None, option("--require", help="NAME for every layer or LAYER:NAME, from 0; repeatable")
]
Forbid = Annotated[list[str] | None, option("--forbid", help="As --require, for directions to leave out")]
PairFlips = Annotated[bool, option("--pair-flips", help="Choose a direction and its reverse together")]
AllowEqual = Annotated[
    bool,
    option("--allow-equal", help="Let names of one scan (h and w7 on 7x7 tokens) count as two directions"),
]
Pareto = Annotated[
    int | None,
    option("--pareto", help="At most so many points of the front: both ends, then the widest gaps in cost"),
]
Space = Annotated[str | None, option("--space", help="Space or its YAML file", default="the run's own")]
Out = Annotated[Path | None, option(help="Write the genotype here; with --pareto NAME-1.yaml and so on")]


def derive_command(
    sources: Sources,
    k: K = None,
    k_min: KMin = None,
    k_max: KMax = None,
    layer_k: LayerK = None,
    max_flops: MaxFlops = None,
    max_params: MaxParams = None,
    max_latency_ms: MaxLatency = None,
    costs: CostFile = None,
    require: Require = None,
    forbid: Forbid = None,
    pair_flips: PairFlips = False,
    allow_equal: AllowEqual = False,
    pareto: Pareto = None,
    measure: Measure = "flops",
    space: Space = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Choose directions again from what a search preferred, exactly, within budgets."""
    from scansearch.cli.screen import print_warning, save_genotypes
    from scansearch.derivation.derive import derive, pareto_front
    from scansearch.files.outputs import check_file, numbered
    from scansearch.records.costs import Costs
    from scansearch.runs.reread import first_costs, own_space, read_preferences

    check_file(out)
    preferences = [read_preferences(source, warn=print_warning) for source in sources]
    table = first_costs(sources) if costs is None else Costs.load(costs)
    wishes: dict[str, Any] = {
        "k": k,
        "k_min": k_min,
        "k_max": k_max,
        "per_layer_k": _layer_numbers(layer_k),
        "max_flops": max_flops,
        "max_params": max_params,
        "max_latency_ms": max_latency_ms,
        "require": _rule(require, "--require", preferences[0]),
        "forbid": _rule(forbid, "--forbid", preferences[0]),
        "pair_flips": pair_flips,
        "allow_equal": allow_equal,
        "costs": table,
        "space": space or own_space(sources[0]),
    }
    if pareto is None:
        genotype = derive(preferences, **wishes)
        files = None if out is None else [out]
        if as_json:
            _show_json([genotype], files)
        else:
            _show(genotype)
        save_genotypes([genotype], files, quiet=as_json)
        return
    if table is None:
        raise InputError("--pareto needs costs: no run here has a costs.json, so give --costs FILE")
    front = pareto_front(preferences, pareto, measure=measure, **wishes)
    files = None if out is None else numbered(out, len(front))
    if as_json:
        _show_json(front, files)
    else:
        _show_front(front, measure)
    save_genotypes(front, files, quiet=as_json)


def _show_json(genotypes: Sequence[Genotype], files: Sequence[Path] | None) -> None:
    """What was chosen, with its certificate and its file."""
    from scansearch.cli.screen import file_names, print_json

    print_json(
        {
            "genotype": genotype.hash,
            "layers": genotype.layers,
            "certificate": None
            if genotype.certificate is None
            else genotype.certificate.model_dump(mode="json"),
            "file": file,
        }
        for genotype, file in zip(genotypes, file_names(genotypes, files), strict=True)
    )


def _rule(
    texts: list[str] | None, flag: str, preferences: Preferences
) -> dict[int, list[str]] | list[str] | None:
    """NAME and LAYER:NAME as what :func:`scansearch.derive` takes."""
    if not texts:
        return None
    if not any(":" in text for text in texts):
        return texts
    layers: dict[int, list[str]] = {}
    for text in texts:
        head, colon, name = text.rpartition(":")
        numbers = [_layer(head, flag, text)] if colon else list(range(preferences.layers))
        for layer in numbers:
            layers.setdefault(layer, []).append(name)
    return layers


def _layer_numbers(texts: list[str] | None) -> dict[int, int] | None:
    if not texts:
        return None
    numbers = {}
    for text in texts:
        head, _, number = text.partition(":")
        if not number.isdecimal():
            raise InputError(f"--layer-k {text!r}: write LAYER:K, for example 0:2")
        numbers[_layer(head, "--layer-k", text)] = int(number)
    return numbers


def _layer(text: str, flag: str, whole: str) -> int:
    if not text.isdecimal():
        raise InputError(f"{flag} {whole!r}: the layer before the colon must be a number, counted from 0")
    return int(text)


def _show(genotype: Genotype) -> None:
    from scansearch.cli.screen import print_lines, print_table
    from scansearch.text import number

    certificate = genotype.certificate
    assert certificate is not None
    layers = [(str(layer), " ".join(names)) for layer, names in enumerate(genotype.layers)]
    print_table(("layer", "directions"), layers, left=2)
    proof = "proven best" if certificate.bound == certificate.objective else f"bound {certificate.bound:.6f}"
    lines = [f"summed preference {certificate.objective:.6f} ({proof}), k = {certificate.k}"]
    if certificate.lost_to_budget:
        lines.append(f"lost to the budget: {certificate.lost_to_budget:.6f}")
    for measure, value in certificate.spent.items():
        limit = certificate.budgets.get(f"max_{measure}")
        lines.append(f"{measure}: {number(value)}" + (f" of {number(limit)}" if limit is not None else ""))
    print_lines([*lines, *certificate.notes])


def _show_front(front: list[Genotype], measure: str) -> None:
    from scansearch.cli.screen import print_table
    from scansearch.text import number

    rows = []
    for index, genotype in enumerate(front, 1):
        assert genotype.certificate is not None
        spent, objective = genotype.certificate.spent[measure], genotype.certificate.objective
        sizes = " ".join(str(size) for size in genotype.directions_per_layer)
        rows.append((str(index), number(spent), f"{objective:.6f}", sizes))
    print_table(("", measure, "summed preference", "directions per layer"), rows, left=4)
