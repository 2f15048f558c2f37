"""``folder:PATH``: pictures in folders, see :mod:`scansearch.data.layouts` and :mod:`scansearch.data.tables`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from scansearch.data.assembly import assemble
from scansearch.data.augment import Augment
from scansearch.data.layouts import READ, Layout, arrange, check_classes, unwrap
from scansearch.data.names import PartName
from scansearch.data.pictures import FolderSource, Pictures, Source
from scansearch.data.splits import ImageData
from scansearch.data.tables import arrange_by_table, table_of
from scansearch.data.trees import Names, walk
from scansearch.errors import InputError
from scansearch.files.regular import similar


def read(
    argument: str,
    size: tuple[int, int],
    augment: Augment,
    *,
    channels: int | None = None,
    scoring: bool = False,
    brightest: float | None = None,
) -> ImageData:
    """The pictures below the folder ``argument``.

    Where only two splits exist, the second is the test set and a tenth of the training images validates; where
    there is but one, or none, a tenth of each class validates and a tenth tests.

    Raises:
        InputError: no folder, or one that holds none of the layouts that are read.
    """
    root = Path(argument).expanduser()
    if not root.is_dir():
        raise InputError(f"data folder {str(root)!r} does not exist{similar(root)}")
    tree = walk(root)
    inner = unwrap(tree)
    below = tree.below(inner)
    table = table_of(below)
    layout = arrange(below) if table is None else arrange_by_table(below, root.joinpath(*inner), table)
    layout = layout.within(inner)
    what = f"data folder {str(root)!r}"
    source = FolderSource(str(root))
    parts, classes, notes = read_layout(
        layout, lambda part: source, lambda part, path: "/".join(path), scoring=scoring
    )
    if inner:
        notes = (f"what lies in {'/'.join(inner)}/ is read", *notes)
    spec = f"folder:{argument}"
    return assemble(
        spec,
        what,
        parts,
        classes,
        size,
        augment,
        channels=channels,
        scoring=scoring,
        brightest=brightest,
        notes=notes,
    )


def read_layout(
    layout: Layout,
    source: Callable[[PartName], Source],
    key: Callable[[PartName, Names], Any],
    *,
    scoring: bool,
) -> tuple[dict[PartName, Pictures], tuple[str, ...], tuple[str, ...]]:
    """Pictures by split, class names in label order, and all notes.

    Args:
        source: where the pictures of a split come from.
        key: split, path of a picture -> its key in the source.

    Raises:
        InputError: one class only, where it is to be learnt; test images of a class that the training images lack.
    """
    classes, notes = check_classes(layout)
    if len(classes) < 2 and not scoring:
        raise InputError(f"data folder {layout.what!r} has one class only, {classes[0]!r} ({READ})")
    labels = {name: label for label, name in enumerate(classes)}
    parts = {}
    for part, by_class in layout.parts.items():
        pairs = [(labels[name], path) for name in classes if name in by_class for path in by_class[name]]
        parts[part] = Pictures(
            [label for label, _ in pairs], [key(part, path) for _, path in pairs], source(part)
        )
    return parts, classes, (*layout.notes, *notes)
