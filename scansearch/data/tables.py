"""``labels.csv``: a table that tells the class, and perhaps the split, of every picture."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from scansearch.data.layouts import Layout, ordered, split_folders, tables
from scansearch.data.names import (
    EXTENSIONS,
    PARTS,
    PartName,
    counted,
    is_picture,
    listed,
    part_called,
)
from scansearch.data.trees import Names, Tree
from scansearch.errors import InputError
from scansearch.files.regular import read_regular

FILE_COLUMNS = ("file", "filename", "image", "path", "id")
LABEL_COLUMNS = ("label", "class", "target")
SPLIT_COLUMN = "split"
LABELS = "labels.csv"
_LARGEST = 2**28  # bytes


class _Row(NamedTuple):
    line: int
    file: str
    label: str
    split: str


def table_of(tree: Tree) -> str | None:
    """The CSV file that tells the classes: ``labels.csv``, or the only one beside pictures without class folders."""
    names = tables(tree)
    named = [name for name in names if name.lower() == LABELS]
    if split_folders(tree):
        return None
    if len(named) == 1:
        return named[0]
    classes = {path[0] for path in tree.files if len(path) > 1 and is_picture(path[-1])}
    classes = {name for name in classes if part_called(name) is None}
    return names[0] if len(names) == 1 and len(classes) < 2 else None


def arrange_by_table(tree: Tree, root: Path, name: str) -> Layout:
    """The layout that the table ``name`` in ``root`` tells.

    Raises:
        InputError: a table that cannot be read, or names files that are not there.
    """
    notes = [*tree.notes, f"classes are read from {name}"]
    rows, latin = _rows(root / name)
    if latin:
        notes.append(f"{name} is no UTF-8: read as Latin-1")
    files = _Files(tree, f"{str(root / name)!r}")
    parts: dict[PartName, dict[str, list[Names]]] = defaultdict(lambda: defaultdict(list))
    taken: dict[Names, tuple[str, str]] = {}
    missing, repeated = [], 0
    divided = any(row.split for row in rows)
    for row in rows:
        path = files.path(row)
        if path is None:
            missing.append(row.file)
            continue
        part = part_called(row.split) if divided else "train"
        if part is None:
            raise InputError(
                f"{str(root / name)!r}, line {row.line}: split {row.split!r} is none of "
                f"{', '.join(name for names in PARTS.values() for name in names)}"
            )
        if path in taken:
            if taken[path] != (row.label, part):
                raise InputError(f"{str(root / name)!r} names {row.file!r} twice, with different values")
            repeated += 1
            continue
        taken[path] = (row.label, part)
        parts[part][row.label].append(path)
    if missing:
        raise InputError(
            f"{counted(len(missing), 'picture')} of {str(root / name)!r} cannot be found: {listed(missing)}"
        )
    if repeated:
        notes.append(f"{name} names {counted(repeated, 'picture')} twice")
    unnamed = sum(is_picture(path[-1]) and path not in taken for path in tree.files)
    if unnamed:
        notes.append(f"passed over {counted(unnamed, 'picture')} that {name} does not name")
    arranged = {
        part: {label: ordered(paths) for label, paths in classes.items()} for part, classes in parts.items()
    }
    return Layout(tree.what, arranged, divided, tuple(notes))


def _rows(path: Path) -> tuple[list[_Row], bool]:
    """Rows of the table, and whether it had to be read as Latin-1."""
    content = read_regular(path, limit=_LARGEST)
    latin = False
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text, latin = content.decode("latin-1"), True
    head = text.lstrip().partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows = []
    try:
        header = [cell.strip() for cell in next(lines, [])]
        file, label, split = _columns(path, header)
        for cells in lines:
            if not any(cell.strip() for cell in cells):
                continue
            if max(file, label) >= len(cells) or not cells[file].strip() or not cells[label].strip():
                raise InputError(
                    f"{str(path)!r}, line {lines.line_num}: needs {header[file]} and {header[label]}"
                )
            part = cells[split].strip() if split is not None and split < len(cells) else ""
            rows.append(_Row(lines.line_num, cells[file].strip(), cells[label].strip(), part))
    except csv.Error as error:
        raise InputError(f"{str(path)!r}, line {lines.line_num}: {error}") from None
    if not rows:
        raise InputError(f"{str(path)!r} names no pictures")
    return rows, latin


def _columns(path: Path, header: list[str]) -> tuple[int, int, int | None]:
    """Places of the columns of files, labels and splits."""
    lower = [name.lower() for name in header]
    columns = [
        next((lower.index(name) for name in names if name in lower), None)
        for names in (FILE_COLUMNS, LABEL_COLUMNS, (SPLIT_COLUMN,))
    ]
    file, label, split = columns
    if file is None or label is None:
        raise InputError(
            f"{str(path)!r} has columns {listed(header)} (read are one of {', '.join(FILE_COLUMNS)} and one of "
            f"{', '.join(LABEL_COLUMNS)}, and {SPLIT_COLUMN} where there is one)"
        )
    return file, label, split


class _Files:
    """The pictures of a tree, to be found by what a table calls them."""

    def __init__(self, tree: Tree, table: str) -> None:
        self.table = table
        self.root = PurePosixPath(Path(tree.what).absolute().as_posix())
        self.pictures = {path for path in tree.files if is_picture(path[-1])}
        self.folders: list[Names] = [(), *sorted(path for path in tree.folders if len(path) == 1)]
        self.stems: dict[Names, list[Names]] = defaultdict(list)
        for path in sorted(self.pictures):
            self.stems[(*path[:-1], PurePosixPath(path[-1]).stem)].append(path)

    def path(self, row: _Row) -> Names | None:
        """The picture of ``row``: below the root, or below a folder in it; the extension may be left out.

        Raises:
            InputError: the name leads out of the folder, or fits several pictures.
        """
        name = PurePosixPath(row.file.replace("\\", "/"))
        if name.is_absolute() and name.is_relative_to(self.root):
            name = name.relative_to(self.root)
        if name.is_absolute() or ".." in name.parts or ":" in name.parts[0][1:2]:
            raise InputError(f"{self.table}, line {row.line}: {row.file!r} lies outside the folder")
        candidates = [(*folder, *name.parts) for folder in self.folders]
        fitting = [path for path in candidates if path in self.pictures]
        if not fitting and name.suffix.lower() not in EXTENSIONS:
            fitting = [path for stem in candidates for path in self.stems.get(stem, [])]
        if len(fitting) > 1 and fitting[0] != candidates[0]:
            several = ["/".join(path) for path in fitting]
            raise InputError(f"{self.table}, line {row.line}: {row.file!r} fits {listed(several)}")
        return fitting[0] if fitting else None
