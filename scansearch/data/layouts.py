"""What a tree of pictures means: which folders are splits, which are classes, and what is passed over.

Read are, by the names of folders in upper or lower case:

* ``train/`` (``training``), ``val/`` (``valid``, ``validation``) and ``test/`` (``testing``), each with one folder a
  class; any of them may be missing;
* one folder a class, without splits;
* pictures in any folders, and a table that tells their classes (:mod:`scansearch.data.tables`);
* one further folder around any of these.

All pictures below a class folder belong to that class, however deep.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

from scansearch.data.names import (
    PARTS,
    PartName,
    counted,
    extension,
    is_picture,
    kinds,
    listed,
    natural_key,
    part_called,
    readable,
)
from scansearch.data.trees import Names, Tree
from scansearch.errors import InputError

READ = (
    "read are train/, val/ and test/ with one folder a class in each, one folder a class, or pictures with a "
    "labels.csv"
)
_WRAPPERS = 3  # folders around the layout that are looked into


@dataclass(frozen=True)
class Layout:
    """Pictures by split and class, in order.

    Attributes:
        what: the folder or file, as messages call it.
        parts: split -> class -> paths of its pictures. Without splits all are in ``train``, and ``divided`` is False.
        notes: what was taken, what was passed over and why, one line each.
    """

    what: str
    parts: Mapping[PartName, Mapping[str, list[Names]]]
    divided: bool
    notes: tuple[str, ...] = ()

    def within(self, folder: Names) -> Layout:
        """The same with paths that start in ``folder``."""
        parts = {
            part: {name: [(*folder, *path) for path in paths] for name, paths in classes.items()}
            for part, classes in self.parts.items()
        }
        return Layout(self.what, parts, self.divided, self.notes)


def ordered(paths: Iterable[Names]) -> list[Names]:
    """In natural order."""
    return sorted(paths, key=lambda path: natural_key("/".join(path)))


def unwrap(tree: Tree) -> Names:
    """The folder that holds the layout: the root, or the only folder with pictures in the only folder with any."""
    inner: Names = ()
    for _ in range(_WRAPPERS):
        here = tree.below(inner)
        tops = {path[0] for path in here.files if is_picture(path[-1])}
        if len(tops) != 1 or split_folders(here) or _loose(here) or tables(here):
            break
        below = here.below((*tops,))
        if _loose(below) and not split_folders(below) and not tables(below):
            break
        inner = (*inner, *tops)
    return inner


def tables(tree: Tree) -> list[str]:
    """Names of the CSV files at the root."""
    return [path[0] for path in tree.files if len(path) == 1 and extension(path[0]) == ".csv"]


def _loose(tree: Tree) -> list[str]:
    """Names of the pictures at the root."""
    return [path[0] for path in tree.files if len(path) == 1 and is_picture(path[0])]


def split_folders(tree: Tree) -> dict[PartName, str]:
    """Split -> the folder at the root that is named so and holds folders.

    Raises:
        InputError: two folders for one split.
    """
    parts: dict[PartName, str] = {}
    for (name,) in sorted(path for path in tree.folders if len(path) == 1):
        part = part_called(name)
        if part is None or not any(len(path) > 1 and path[0] == name for path in tree.folders):
            continue
        if part in parts:
            raise InputError(
                f"data folder {tree.what!r} has two folders for {part}: {listed([parts[part], name])}"
            )
        parts[part] = name
    return parts


def arrange(tree: Tree) -> Layout:
    """The layout of folders alone, without a table.

    Raises:
        InputError: no class folders, or one that is empty.
    """
    names = split_folders(tree)
    notes = list(tree.notes)
    if not names:
        classes = _classes(tree, notes, divided=False)
        if all(part_called(name) for name in classes):
            raise InputError(
                f"pictures lie in {listed(classes)} of {tree.what!r}, but not in class folders ({READ})"
            )
        return Layout(tree.what, {"train": classes}, False, tuple(notes))
    parts: dict[PartName, Mapping[str, list[Names]]] = {}
    for part, name in names.items():
        if name.lower() not in (PARTS[part][0], part):
            notes.append(f"{name}/ is read as {part}")
        classes = _classes(tree.below((name,)), notes, divided=True, prefix=f"{name}/")
        parts[part] = {label: [(name, *path) for path in paths] for label, paths in classes.items()}
    notes += [f"passed over {name}: the folders tell the classes" for name in tables(tree)]
    _note_others(tree, names.values(), notes)
    _note_shared(tree, names, notes)
    return Layout(tree.what, parts, True, tuple(notes))


def _classes(tree: Tree, notes: list[str], *, divided: bool, prefix: str = "") -> dict[str, list[Names]]:
    """Class -> its pictures, of the folders at the root of ``tree``."""
    pictures: dict[str, list[Names]] = {name: [] for (name,) in (f for f in tree.folders if len(f) == 1)}
    others: dict[str, list[str]] = defaultdict(list)
    loose = []
    for path in tree.files:
        if not is_picture(path[-1]):
            others[path[0] if len(path) > 1 else ""].append(path[-1])
        elif len(path) == 1:
            loose.append(path[0])
        else:
            pictures[path[0]].append(path)
    folders = sorted(pictures, key=natural_key)
    for name in [name for name in folders if not pictures[name]]:
        # Beside class folders, without splits, there may be folders of other things.
        if divided or not others[name]:
            holds = f"holds no pictures that are read ({kinds(others[name])})" if others[name] else "is empty"
            raise InputError(
                f"class folder {'/'.join((tree.what, name))!r} {holds}: put pictures in it, or remove it"
            )
        notes.append(f"passed over folder {prefix + name!r}, which holds no pictures ({kinds(others[name])})")
        del pictures[name]
        del others[name]
    if loose:
        where = f"directly under {prefix}" if prefix else "beside the class folders"
        notes.append(f"passed over {counted(len(loose), 'picture')} {where}: a class is a folder")
    ignored = [name for names in others.values() for name in names]
    if ignored:
        inside = f" in {prefix}" if prefix else ""
        what = "that is no picture" if len(ignored) == 1 else "that are no pictures"
        notes.append(f"passed over {counted(len(ignored), 'file')}{inside} {what} ({kinds(ignored)})")
    if not pictures:
        hint = f"; {counted(len(loose), 'picture')} lie directly in it" if loose else ""
        raise InputError(f"data folder {tree.what!r} holds no images in class folders{hint} ({READ})")
    kept = _once(tree, pictures, notes)
    return _by_class({name: ordered(kept[name]) for name in folders if name in kept}, tree.what, notes)


def _by_class(folders: dict[str, list[Names]], what: str, notes: list[str]) -> dict[str, list[Names]]:
    """``folders`` by the names that their classes shall have."""
    classes: dict[str, list[Names]] = {}
    for folder, paths in folders.items():
        name = readable(folder)
        if name in classes:
            raise InputError(f"data folder {what!r} has class {name!r} twice, once in UTF-8, once in Latin-1")
        if name != folder:
            notes.append(f"class folder {folder!r} is no UTF-8: read as Latin-1, {name!r}")
        classes[name] = paths
    return classes


def _once(tree: Tree, pictures: dict[str, list[Names]], notes: list[str]) -> dict[str, list[Names]]:
    """``pictures`` without those that a link shows a second time in the same class.

    Raises:
        InputError: a link shows pictures of one class in another.
    """
    if len(set(tree.identities.values())) == len(tree.identities):
        return pictures
    owner: dict[Hashable, Names] = {}
    kept: dict[str, list[Names]] = {}
    repeated = 0
    for name in sorted(pictures):
        kept[name] = []
        for path in sorted(pictures[name]):
            folder = path[:-1]
            first = owner.setdefault(tree.identities.get(folder, folder), folder)
            if first[0] != folder[0]:
                raise InputError(
                    f"data folders {'/'.join((tree.what, *first))!r} and {'/'.join((tree.what, *folder))!r} are one "
                    "and the same, by a link"
                )
            if first == folder:
                kept[name].append(path)
            else:
                repeated += 1
    if repeated:
        notes.append(f"passed over {counted(repeated, 'picture')} that links show a second time")
    return kept


def _note_others(tree: Tree, splits: Iterable[str], notes: list[str]) -> None:
    """What lies beside the folders of the splits."""
    known = set(splits)
    beside: dict[str, int] = defaultdict(int)
    for path in tree.files:
        if path[0] not in known:
            beside[path[0] if len(path) > 1 else ""] += is_picture(path[-1])
    loose = beside.pop("", 0)
    if loose:
        notes.append(f"passed over {counted(loose, 'picture')} beside the folders of the splits")
    for name, count in sorted(beside.items()):
        if count:
            why = "they lie in no class folders" if part_called(name) else "its name is no split's"
            notes.append(f"passed over folder {name!r} with {counted(count, 'picture')}: {why}")


def _note_shared(tree: Tree, splits: Mapping[PartName, str], notes: list[str]) -> None:
    """Pictures that two splits share by a link would be learnt and then asked for."""
    seen: dict[Hashable, str] = {}
    for part, name in splits.items():
        for path, identity in tree.identities.items():
            if path[0] == name and seen.setdefault(identity, name) != name:
                notes.append(f"{seen[identity]}/ and {name}/ ({part}) share pictures, by a link")
                break


def check_classes(layout: Layout) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Class names in label order, and notes on classes that are not everywhere or look alike.

    Raises:
        InputError: validation or test images of a class that the training images lack.
    """
    first = layout.parts.get("train") or {name: [] for classes in layout.parts.values() for name in classes}
    names = tuple(sorted(first, key=natural_key))
    notes = []
    for part, classes in layout.parts.items():
        unknown = sorted(set(classes) - set(names), key=natural_key)
        if unknown:
            alike = [name for name in names if name.casefold() == unknown[0].casefold()]
            hint = f" (they have {alike[0]!r})" if alike else ""
            noun = "class" if len(unknown) == 1 else "classes"
            raise InputError(
                f"data folder {layout.what!r} has {noun} {listed(unknown)} for {part}, which the training images "
                f"lack{hint}"
            )
        lacking = [name for name in names if name not in classes]
        if lacking:
            noun = "class" if len(lacking) == 1 else "classes"
            notes.append(f"{part} has no pictures of {noun} {listed(lacking)}")
    folded: dict[str, list[str]] = defaultdict(list)
    for name in names:
        folded[name.casefold()].append(name)
    notes += [f"classes {listed(same)} differ only by case" for same in folded.values() if len(same) > 1]
    return names, tuple(notes)
