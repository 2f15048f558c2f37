"""``report.html``: a finished run as one page that needs no other file and no network, to be sent to a colleague.

It is made from the files of the run folder. Of paths that start at this machine's root only the last name is shown.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from scansearch.data.specifications import without_folders
from scansearch.display.html import STYLE, escape, heat_map, line, table
from scansearch.display.sketch import layer_strip
from scansearch.errors import InputError
from scansearch.files.atomic import write_text
from scansearch.records.costs import Costs
from scansearch.records.genotype import Genotype
from scansearch.records.preferences import Preferences
from scansearch.runs.folder import Run
from scansearch.runs.overview import RunOverview, asked, in_words, next_steps, outcome, overview, warnings
from scansearch.text import human, span

NAME = "report.html"
_PNG = b"\x89PNG"  # how such a file begins
_MOST_CLASSES = 60  # of the table of classes; where there are more, the worst are shown
# File in plots/, heading, and what it shows.
_PICTURES = (
    ("training.png", "Curves", "Loss and accuracy of training and validation images over the epochs."),
    ("trajectories.png", "Movement", "How the gate probabilities of each layer moved; chosen directions are named."),
    ("confusion.png", "Confusion", "Labels and predictions of the test images."),
    ("predictions.png", "Predictions", "Masks of validation images, and what the model made of them."),
    ("samples.png", "Training images", "Sixteen of them, as the model saw them."),
)  # fmt: skip

_PAGE_STYLE = """
:root{color-scheme:light dark;--page:#fff;--text:#1b1b1f;--card:#f4f5f7;--edge:#d5d8dd;--warn:#fff3d6;--link:#0b57a4}
@media (prefers-color-scheme:dark){:root{--page:#16181c;--text:#e8e8ea;--card:#22252b;--edge:#3d424b;--warn:#4a3a10;
--link:#8ab8f0}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--text);font:15px/1.5 system-ui,sans-serif}
main{max-width:1040px;margin:0 auto;padding:16px;overflow-wrap:anywhere}
h1{font-size:1.5em;margin:.2em 0}h2{font-size:1.15em;margin:1.6em 0 .4em;border-bottom:1px solid var(--edge)}
.cards{display:flex;flex-wrap:wrap;gap:10px;margin:1em 0}
.card{background:var(--card);border:1px solid var(--edge);border-radius:8px;padding:8px 14px;min-width:120px}
.card b{display:block;font-size:1.35em}
.warning{background:var(--warn);border-radius:6px;padding:6px 12px;margin:6px 0}
figure{margin:1em 0}figure img{max-width:100%;height:auto;background:#fff;border-radius:6px;padding:4px}
figcaption{opacity:.8;font-size:13px}
pre{background:var(--card);border:1px solid var(--edge);border-radius:6px;padding:8px 12px;white-space:pre-wrap}
"""


def write_report(run: Run) -> None:
    """Write the report of a finished run into its folder.

    Raises:
        RunStopped: it cannot be written.
    """
    write_text(run.folder / NAME, report_html(run))


def report_html(run: Run) -> str:
    """The page.

    Raises:
        InputError: the run has not finished, or its files are damaged.
    """
    seen = overview(run.folder)
    if seen.state == "damaged" or not (run.folder / "result.json").is_file():
        raise InputError(
            seen.problem or f"run {str(run.folder)!r} has not finished: there is nothing to report"
        )
    trained = run.trained
    genotype = trained if isinstance(trained, Genotype) else None
    preferences = run.preferences if (run.folder / "preferences.json").is_file() else None
    costs = run.costs if (run.folder / "costs.json").is_file() else None
    settings = {name: _shown(name, value) for name, value in asked(run).items()}
    what = f"{settings.get('space') or settings.get('model')} on {settings.get('data', '')}"
    title = f"{seen.kind.capitalize()}: {what}"
    told = warnings(run)
    sections = [
        _section("Warnings", *(f'<div class="warning">{escape(text)}</div>' for text in told))
        if told
        else "",
        _section("What was asked", table(("setting", "value"), settings.items(), left=2)),
        _section("What was found", *_found(run, seen, genotype, preferences)),
        _section("Layers", _layers(genotype, preferences, costs)) if genotype is not None else "",
        *_pictures(run),
        _section("Costs", *_costs(costs, genotype)) if costs is not None and genotype is not None else "",
        _section("Classes", *_classes(run.result["test"], seen.measure)) if seen.kind == "training" else "",
        _section("How to repeat it", *_again(run, seen)),
        _section("Environment", _environment(run)),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{STYLE}{_PAGE_STYLE}</style></head>"
        f'<body><main class="scansearch"><h1>{escape(title)}</h1>'
        f"{_cards(run.result, seen)}{''.join(sections)}</main></body></html>\n"
    )


def _shown(name: str, value: Any) -> str:
    text = in_words(value)
    if name == "data":
        return without_folders(text)
    return Path(text).name if text.startswith(("/", "~")) else text


def _section(heading: str, *parts: str) -> str:
    return f"<section><h2>{escape(heading)}</h2>{''.join(parts)}</section>"


def _cards(result: dict[str, Any], seen: RunOverview) -> str:
    what = "supernet, test" if seen.kind == "search" else "test"
    figures = [
        (f"{seen.score:.2f} %", f"{what} {seen.measure}"),
        (f"{seen.validation:.2f} %", f"validation {seen.measure}"),
        (human(result["params"]), "parameters"),
        (human(result["flops"]), "FLOPs an image"),
        (result["genotype"] or seen.space, "genotype" if result["genotype"] else "model"),
    ]
    cards = (f'<div class="card"><b>{escape(figure)}</b>{escape(name)}</div>' for figure, name in figures)
    return f'<div class="cards">{"".join(cards)}</div>'


def _found(
    run: Run, seen: RunOverview, genotype: Genotype | None, preferences: Preferences | None
) -> Iterable[str]:
    yield from map(line, outcome(run, seen))
    if genotype is None:
        return
    if genotype.provenance.note:
        yield line(genotype.provenance.note)
    if genotype.certificate is not None:
        certificate = genotype.certificate
        proved = (
            "proven best" if certificate.bound == certificate.objective else f"bound {certificate.bound:.6f}"
        )
        yield line(f"summed preference {certificate.objective:.6f} ({proved}), k = {certificate.k}")
        yield from map(line, certificate.notes)
    yield layer_strip(genotype.layers, genotype.known_grids())
    yield line(
        "Scans of each layer: dark to light in scan order, thin lines are jumps, a ring is the start.",
        "ss-note",
    )
    if preferences is not None:
        yield line("How much each layer prefers each candidate; framed: chosen.", "ss-note")
        yield preferences.heat_map(genotype.layers)


def _layers(genotype: Genotype, preferences: Preferences | None, costs: Costs | None) -> str:
    grids = genotype.known_grids()
    headings = ["layer", "directions"]
    headings += ["preference"] if preferences is not None else []
    headings += ["tokens"] if grids else []
    headings += ["FLOPs", "parameters"] if costs is not None else []
    rows = []
    for layer, names in enumerate(genotype.layers):
        row = [str(layer), " ".join(names)]
        if preferences is not None:
            scores = dict(preferences.ranked(layer))
            row.append(" ".join(f"{scores[name]:.3f}" if name in scores else "?" for name in names))
        if grids:
            row.append(f"{grids[layer][0]} x {grids[layer][1]}")
        if costs is not None:
            row += [human(_of_layer(costs, measure, layer, names)) for measure in ("flops", "params")]
        rows.append(row)
    return table(headings, rows, left=2)


def _of_layer(costs: Costs, measure: str, layer: int, names: Sequence[str]) -> float:
    figures = zip(costs.candidates[layer], costs.tables()[measure].table[layer], strict=True)
    return math.fsum(figure for name, figure in figures if name in names)


def _pictures(run: Run) -> Iterable[str]:
    for name, heading, caption in _PICTURES:
        path = run.folder / "plots" / name
        content = b"" if path.is_symlink() or not path.is_file() else path.read_bytes()
        if content.startswith(_PNG):
            data = base64.b64encode(content).decode("ascii")
            yield _section(
                heading,
                f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
                f"<figcaption>{escape(caption)}</figcaption></figure>",
            )


def _costs(costs: Costs, genotype: Genotype) -> Iterable[str]:
    names = list(dict.fromkeys(name for layer in costs.candidates for name in layer))
    yield line(costs.convention, "ss-note")
    totals = costs.of(genotype.layers)
    for measure, cost in costs.tables().items():
        figure = "{:.3f} ms".format if measure == "latency_ms" else human
        rows = []
        for layers in costs.equal_layers():
            known = dict(zip(costs.candidates[layers[0]], cost.table[layers[0]], strict=True))
            rows.append((span(layers), [known.get(name) for name in names]))
        yield line(
            f"{measure}: {figure(totals[measure])} in all, of which {figure(cost.fixed)} whatever is chosen"
        )
        yield heat_map(("layers", *names), rows, figure)


def _classes(score: dict[str, Any], measure: str) -> Iterable[str]:
    """The score of each class, and how many images, pixels or objects it has."""
    counts = score["class_counts"].values() if "class_counts" in score else map(sum, score["confusion"])
    pairs = list(zip(score["per_class"].items(), counts, strict=True))
    if len(pairs) > _MOST_CLASSES:
        yield line(f"The {_MOST_CLASSES} of {len(pairs)} classes with the lowest {measure}.", "ss-note")
        pairs = sorted(pairs, key=lambda pair: math.inf if pair[0][1] is None else pair[0][1])[:_MOST_CLASSES]
    rows = [
        (name, str(images), "" if accuracy is None else f"{accuracy:.2f} %")
        for (name, accuracy), images in pairs
    ]
    counted = {"accuracy": "images", "mIoU": "pixels"}.get(measure, "objects")
    yield table(("class", f"test {counted}", measure), rows)


def _again(run: Run, seen: RunOverview) -> Iterable[str]:
    command = "train" if seen.kind == "training" else "run"
    version = ""
    if (run.folder / "environment.json").is_file():
        packages = run.environment.get("packages")
        version = str(packages.get("scansearch", "")) if isinstance(packages, dict) else ""
    name = run.folder.absolute().name
    yield line(
        f"With scansearch {version} and the folder {name}, whose config.yaml holds every setting; the same seed gives "
        "the same result on the same kind of machine with as many threads."
    )
    lines = [f"scansearch {command} --config {name}/config.yaml"]
    lines += [text.replace(seen.folder, name) for text in next_steps(seen)]
    yield f"<pre>{escape(lines[0])}</pre>{line('What comes next:')}<pre>{'<br>'.join(map(escape, lines[1:]))}</pre>"


def _environment(run: Run) -> str:
    if not (run.folder / "environment.json").is_file():
        return line("not recorded")
    content = run.environment
    packages = content.get("packages")
    rows = [(name, in_words(content[name])) for name in _SURROUNDINGS if name in content]
    if isinstance(packages, dict):
        rows += [(str(name), str(version)) for name, version in packages.items()]
    return table(("", ""), rows, left=2)


_SURROUNDINGS = ("started", "python", "platform", "device", "device_name", "threads", "seed")
