"""Trees of files: what a folder or a tar file holds, before anybody says what it means."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scansearch.data.names import is_junk, listed
from scansearch.errors import InputError

Names = tuple[str, ...]
# Folders may be links to each other: below this level each real folder is entered once.
_LEVELS = 3


@dataclass(frozen=True)
class Tree:
    """Names below a root, without junk; each is a tuple of the names on the way to it.

    Attributes:
        what: the root, as messages call it.
        files: of any kind.
        folders: every folder below the root, also empty ones.
        notes: what was passed over, one line each.
        identities: what is the same for two folders that are one and the same, by a link.
    """

    what: str
    files: tuple[Names, ...]
    folders: frozenset[Names]
    notes: tuple[str, ...] = ()
    identities: Mapping[Names, Hashable] = field(default_factory=dict)

    def below(self, folder: Names) -> Tree:
        """The tree in ``folder``."""
        depth = len(folder)
        return Tree(
            "/".join([self.what, *folder]),
            tuple(path[depth:] for path in self.files if path[:depth] == folder),
            frozenset(path[depth:] for path in self.folders if len(path) > depth and path[:depth] == folder),
            self.notes,
            {
                path[depth:]: value
                for path, value in self.identities.items()
                if len(path) > depth and path[:depth] == folder
            },
        )


def walk(root: Path) -> Tree:
    """The tree of the folder ``root``; links are followed, except to a folder above them.

    Raises:
        InputError: ``root``, or a folder below it, cannot be read.
    """
    files: list[Names] = []
    identities: dict[Names, Hashable] = {}
    loops: list[str] = []
    entered: set[tuple[Names, Hashable]] = set()

    def visit(folder: Names, above: frozenset[Hashable]) -> None:
        for entry in _entries(root.joinpath(*folder)):
            path = (*folder, entry.name)
            if is_junk(entry.name):
                continue
            if not entry.is_dir():
                files.append(path)
                continue
            identity = _identity(Path(entry.path))
            if identity in above:
                loops.append("/".join(path))
            elif (path[:_LEVELS], identity) not in entered:
                entered.add((path[:_LEVELS], identity))
                identities[path] = identity
                visit(path, above | {identity})

    real = Path(os.path.realpath(root))
    try:
        visit((), frozenset(_identity(folder) for folder in (real, *real.parents)))
    except RecursionError:
        raise InputError(f"data folder {str(root)!r} has folders in folders without end") from None
    notes = (f"passed over {listed(sorted(loops))}: a link to a folder above it",) if loops else ()
    return Tree(str(root), tuple(files), frozenset(identities), notes, identities)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"data folder {str(folder)!r} cannot be read: {error.strerror or error}") from None


def _identity(folder: Path) -> Hashable:
    try:
        status = folder.stat()
    except OSError as error:
        raise InputError(f"data folder {str(folder)!r} cannot be read: {error.strerror or error}") from None
    return status.st_dev, status.st_ino
