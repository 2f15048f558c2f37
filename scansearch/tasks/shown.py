"""How the scores of all tasks show themselves: a line and a row for each class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scansearch.display.frames import table_of
from scansearch.display.html import fragment, line, table

if TYPE_CHECKING:
    from scansearch.display.frames import DataFrame
    from scansearch.tasks.protocol import ConfusionRecord, ScoreRecord


def class_rows(record: ScoreRecord) -> list[dict[str, Any]]:
    """Of each class: its name, how many images, pixels or objects have it, and its figure."""
    return [
        {"class": name, record.counted: record.class_counts[name], record.class_title: figure}
        for name, figure in record.per_class.items()
    ]


def right_rows(record: ConfusionRecord) -> list[dict[str, Any]]:
    """The same, and how many of them were right."""
    return [
        {"class": name, record.counted: sum(row), "right": row[index], record.class_title: figure}
        for index, ((name, figure), row) in enumerate(
            zip(record.per_class.items(), record.confusion, strict=True)
        )
    ]


def record_frame(record: ConfusionRecord) -> DataFrame:
    """:func:`right_rows` as a pandas table."""
    return table_of(right_rows(record), ("class", record.counted, "right", record.class_title))


def record_html(record: ScoreRecord, *more: str) -> str:
    """The record in a line, ``more`` lines, and a table of the classes."""
    figures = [
        (row["class"], row[record.counted], "" if figure is None else f"{figure:.2f} %")
        for row in class_rows(record)
        for figure in [row[record.class_title]]
    ]
    lines = [line(text) for text in (repr(record).strip("<>"), *more)]
    return fragment(*lines, table(("class", record.counted, record.class_title), figures))
