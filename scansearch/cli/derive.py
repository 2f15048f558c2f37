"""``scansearch derive``: another genotype from finished or interrupted runs, without searching again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scansearch.errors import InputError

if TYPE_CHECKING:
    from scansearch.records.costs import Costs
    from scansearch.records.genotype import Genotype
    from scansearch.records.preferences import Preferences

Sources = Annotated[
    list[str],
    typer.Argument(help="Run folders or preferences.json files; several are averaged.", metavar="RUN..."),
]
K = Annotated[int | None, typer.Option("--k", help="Directions per layer.")]
KMin = Annotated[int | None, typer.Option("--k-min", help="Instead of --k: at least so many.")]
KMax = Annotated[int | None, typer.Option("--k-max", help="Instead of --k: at most so many.")]
LayerK = Annotated[
    list[str] | None, typer.Option("--layer-k", help="LAYER:K for one layer, from 0; repeatable.")
]
MaxFlops = Annotated[
    float | None, typer.Option("--max-flops", help="Budget for one image, for example 1.5e9.")
]
MaxParams = Annotated[float | None, typer.Option("--max-params", help="Budget of parameters.")]
MaxLatency = Annotated[
    float | None, typer.Option("--max-latency-ms", help="Budget in milliseconds per image.")
]
CostFile = Annotated[
    Path | None,
    typer.Option("--costs", help="Costs file; default: costs.json of the first run that has one."),
]
Require = Annotated[
    list[str] | None,
    typer.Option("--require", help="NAME for every layer or LAYER:NAME, from 0; repeatable."),
]
Forbid = Annotated[
    list[str] | None, typer.Option("--forbid", help="As --require, for directions to leave out.")
]
PairFlips = Annotated[bool, typer.Option("--pair-flips", help="Choose a direction and its reverse together.")]
Pareto = Annotated[
    int | None,
    typer.Option(
        "--pareto", help="At most so many points of the front: both ends, then the widest gaps in cost."
    ),
]
Measure = Annotated[str, typer.Option("--measure", help="Cost of the front: flops, params or latency_ms.")]
Space = Annotated[str | None, typer.Option("--space", help="Space or its YAML file; default: the run's own.")]
Out = Annotated[
    Path | None, typer.Option(help="Write the genotype here; with --pareto NAME-1.yaml and so on.")
]


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
    pareto: Pareto = None,
    measure: Measure = "flops",
    space: Space = None,
    out: Out = None,
) -> None:
    """Choose directions again from what a search preferred, exactly, within budgets."""
    from scansearch.derivation.derive import derive, pareto_front

    if out is not None and not out.resolve().parent.is_dir():
        raise InputError(f"--out: folder {str(out.parent)!r} does not exist")
    preferences = [_preferences(Path(source)) for source in sources]
    found = _costs(costs, [Path(source) for source in sources])
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
        "costs": found,
        "space": space or _space(Path(sources[0])),
    }
    if pareto is None:
        genotype = derive(preferences, **wishes)
        _show(genotype)
        _write([genotype], None if out is None else [out])
        return
    if found is None:
        raise InputError("--pareto needs costs: no run here has a costs.json, so give --costs FILE")
    front = pareto_front(preferences, pareto, measure=measure, **wishes)
    _show_front(front, measure)
    names = None
    if out is not None:
        names = [
            out.with_name(f"{out.stem}-{number + 1}{out.suffix or '.yaml'}") for number in range(len(front))
        ]
    _write(front, names)


def _preferences(source: Path) -> Preferences:
    from scansearch.records.preferences import Preferences
    from scansearch.runs.folder import Run

    if not source.is_dir():
        return Preferences.load(source)
    run = Run.open(source)
    if (source / "preferences.json").is_file():
        return run.preferences
    if not run.checkpoints():
        raise InputError(f"run {str(source)!r} has neither preferences.json nor a checkpoint yet")
    from scansearch.runs.reopen import select_unfinished

    return select_unfinished(source, warn=lambda line: print(line, file=sys.stderr))


def _costs(given: Path | None, sources: list[Path]) -> Costs | None:
    from scansearch.records.costs import Costs

    if given is not None:
        return Costs.load(given)
    for source in sources:
        if (source / "costs.json").is_file():
            return Costs.load(source / "costs.json")
    return None


def _space(source: Path) -> str | None:
    """The run's own copy of its space, where there is one."""
    return str(source / "space.yaml") if (source / "space.yaml").is_file() else None


def _rule(
    texts: list[str] | None, option: str, preferences: Preferences
) -> dict[int, list[str]] | list[str] | None:
    """NAME and LAYER:NAME as what :func:`scansearch.derive` takes."""
    if not texts:
        return None
    if not any(":" in text for text in texts):
        return texts
    layers: dict[int, list[str]] = {}
    for text in texts:
        head, colon, name = text.rpartition(":")
        places = [_layer(head, option, text)] if colon else list(range(preferences.layers))
        for place in places:
            layers.setdefault(place, []).append(name)
    return layers


def _layer_numbers(texts: list[str] | None) -> dict[int, int] | None:
    if not texts:
        return None
    found = {}
    for text in texts:
        head, _, number = text.partition(":")
        if not number.isdecimal():
            raise InputError(f"--layer-k {text!r}: write LAYER:K, for example 0:2")
        found[_layer(head, "--layer-k", text)] = int(number)
    return found


def _layer(text: str, option: str, whole: str) -> int:
    if not text.isdecimal():
        raise InputError(f"{option} {whole!r}: the layer before the colon must be a number, counted from 0")
    return int(text)


def _show(genotype: Genotype) -> None:
    from rich.table import Table

    from scansearch.cli.screen import wide_console
    from scansearch.text import number

    certificate = genotype.certificate
    assert certificate is not None
    table = Table("layer", "directions", box=None, pad_edge=False)
    for layer, names in enumerate(genotype.layers):
        table.add_row(str(layer), " ".join(names))
    proof = "proven best" if certificate.bound == certificate.objective else f"bound {certificate.bound:.6f}"
    lines = [f"summed preference {certificate.objective:.6f} ({proof}), k = {certificate.k}"]
    if certificate.lost_to_budget:
        lines.append(f"lost to the budget: {certificate.lost_to_budget:.6f}")
    for measure, value in certificate.spent.items():
        limit = certificate.budgets.get(f"max_{measure}")
        lines.append(f"{measure}: {number(value)}" + (f" of {number(limit)}" if limit is not None else ""))
    console = wide_console()
    console.print(table, highlight=False)
    for line in [*lines, *certificate.notes]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _show_front(front: list[Genotype], measure: str) -> None:
    from rich.table import Table

    from scansearch.cli.screen import wide_console
    from scansearch.text import number

    table = Table("", measure, "summed preference", "directions per layer", box=None, pad_edge=False)
    for place, genotype in enumerate(front):
        assert genotype.certificate is not None
        spent, objective = genotype.certificate.spent[measure], genotype.certificate.objective
        sizes = " ".join(str(size) for size in genotype.directions_per_layer)
        table.add_row(str(place + 1), number(spent), f"{objective:.6f}", sizes)
    wide_console().print(table, highlight=False)


def _write(genotypes: list[Genotype], names: list[Path] | None) -> None:
    if names is None:
        print("not written: add --out FILE.yaml")
        return
    for genotype, name in zip(genotypes, names, strict=True):
        genotype.save(name)
        print(f"written to {name}")
