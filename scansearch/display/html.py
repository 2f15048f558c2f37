"""Parts of HTML pages: escaped texts, tables, heat maps. Without scripts and without anything from a network."""

from __future__ import annotations

import html
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import pairwise

from scansearch.text import printable

# matplotlib's viridis at equal distances.
_MAP = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))

FRAME = "#ff5a36"  # around what was chosen, as in the pictures

# Of all parts; notebooks get it with each value, a report once.
STYLE = """
.scansearch{font-family:system-ui,sans-serif;font-size:14px;line-height:1.4}
.scansearch .ss-wide{overflow-x:auto;max-width:100%}
.scansearch table.ss{border-collapse:collapse;font-size:13px;margin:.4em 0}
.scansearch table.ss th,.scansearch table.ss td{padding:.2em .6em;text-align:right;vertical-align:top;
border:0;border-bottom:1px solid rgba(128,128,128,.35);white-space:nowrap}
.scansearch table.ss .ss-left{text-align:left;white-space:normal;overflow-wrap:break-word;max-width:32em}
.scansearch table.ss td.ss-cell{text-align:center;padding:.2em .45em}
.scansearch .ss-strip{display:flex;flex-wrap:wrap;gap:8px;margin:.4em 0}
.scansearch .ss-layer{border:1px solid rgba(128,128,128,.45);border-radius:6px;padding:4px 6px;text-align:center}
.scansearch .ss-layer b{display:block;font-size:12px}
.scansearch .ss-layer span{display:block;font:11px ui-monospace,monospace;max-width:9em;overflow-wrap:anywhere}
.scansearch .ss-layer svg{display:block;margin:3px auto 0}
.scansearch .ss-note{opacity:.75;font-size:12px}
"""


def escape(text: object) -> str:
    """A text of unknown origin as it may stand in HTML, in attributes too: no markup, no control characters."""
    return html.escape(printable(str(text)))


def fragment(*parts: str) -> str:
    """Parts as one value of a notebook, with their style."""
    return f'<div class="scansearch"><style>{STYLE}</style>{"".join(parts)}</div>'


def line(text: object, kind: str = "") -> str:
    """A paragraph; ``kind`` is a class of :data:`STYLE`."""
    name = f' class="{kind}"' if kind else ""
    return f"<div{name}>{escape(text)}</div>"


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, left: int = 1) -> str:
    """A table of texts; the first ``left`` columns are set to the left and may be broken, the others to the right."""
    head = _row("th", headings, left)
    body = "".join(_row("td", row, left) for row in rows)
    return _wide(head, body)


def _wide(head: str, body: str) -> str:
    return f'<div class="ss-wide"><table class="ss"><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def _row(tag: str, cells: Iterable[object], left: int) -> str:
    parts = []
    for index, cell in enumerate(cells):
        side = ' class="ss-left"' if index < left else ""
        parts.append(f"<{tag}{side}>{escape(cell)}</{tag}>")
    return f"<tr>{''.join(parts)}</tr>"


def heat_map(
    headings: Sequence[str],
    rows: Iterable[tuple[str, Sequence[float | None]]],
    figure: Callable[[float], str] = "{:.2f}".format,
    framed: Collection[tuple[str, str]] = (),
) -> str:
    """A table whose cells are coloured, dark for small values and light for large ones; None leaves one blank.

    Args:
        headings: that of the names of rows, then those of the columns.
        rows: name and values of each.
        figure: how a value is written.
        framed: (name of the row, heading) of the cells with a frame.
    """
    kept = list(rows)
    values = [value for _, row in kept for value in row if value is not None]
    low, high = (min(values), max(values)) if values else (0.0, 0.0)
    body = []
    for name, row in kept:
        cells = [f'<td class="ss-left">{escape(name)}</td>']
        for heading, value in zip(headings[1:], row, strict=True):
            if value is None:
                cells.append("<td></td>")
                continue
            share = (value - low) / (high - low) if high > low else 0.5
            style = f"background:{colour(share)};color:{'#fff' if share < 0.5 else '#000'}"
            if (name, heading) in framed:
                style += f";outline:3px solid {FRAME};outline-offset:-3px"
            cells.append(f'<td class="ss-cell" style="{style}">{escape(figure(value))}</td>')
        body.append(f"<tr>{''.join(cells)}</tr>")
    return _wide(_row("th", headings, 1), "".join(body))


def colour(share: float) -> str:
    """The colour of a share of 1 on the map, as CSS has it."""
    position = min(max(share, 0.0), 1.0) * (len(_MAP) - 1)
    index = min(int(position), len(_MAP) - 2)
    low, high = list(pairwise(_MAP))[index]
    mixed = (round(a + (b - a) * (position - index)) for a, b in zip(low, high, strict=True))
    return f"rgb({','.join(map(str, mixed))})"
