"""``timm:NAME``: tar files, and the data sets of torchvision and Hugging Face through timm's factory."""

from __future__ import annotations

from pathlib import Path

from scansearch.data.assembly import assemble
from scansearch.data.augment import Augment
from scansearch.data.folders import read_layout
from scansearch.data.layouts import Layout, arrange, unwrap
from scansearch.data.names import PARTS, PartName
from scansearch.data.pictures import IndexedSource, Pictures
from scansearch.data.splits import ImageData
from scansearch.data.tars import Member, TarSource, read_tar
from scansearch.data.trees import Names
from scansearch.errors import InputError, MissingExtra

_STREAMS = ("hfids", "tfds", "wds")
_Read = tuple[dict[PartName, Pictures], tuple[str, ...], tuple[str, ...]]


def read(
    argument: str,
    size: tuple[int, int],
    augment: Augment,
    *,
    channels: int | None = None,
    scoring: bool = False,
    brightest: float | None = None,
) -> ImageData:
    """``NAME@ROOT`` or a path.

    ``torch/NAME@ROOT`` is a data set of torchvision, kept in (and if need be downloaded to) ROOT; ``hfds/NAME``
    one of the Hugging Face hub; ``PATH.tar`` a tar file of class folders, with or without folders of splits, and
    ``PATH`` a folder with train.tar, val.tar and test.tar. Missing splits are made as in ``folder:``.

    Raises:
        InputError: a data set that cannot be read. MissingExtra: it needs a package that is not installed.
    """
    name, _, root = argument.partition("@")
    prefix = name.partition("/")[0].lower()
    if prefix in _STREAMS:
        raise InputError(
            f"data 'timm:{argument}' is a stream: without an index a resume cannot be exact (allowed: "
            "timm:torch/..., timm:hfds/..., timm:PATH.tar)"
        )
    if prefix == "torch":
        parts, classes, notes = _torchvision(name, root)
    elif prefix == "hfds":
        parts, classes, notes = _hugging_face(name, root)
    else:
        parts, classes, notes = _tar(Path(argument).expanduser(), scoring=scoring)
    what = f"data 'timm:{argument}'"
    return assemble(
        f"timm:{argument}",
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


def _torchvision(name: str, root: str) -> _Read:
    from timm.data import create_dataset

    if not root:
        raise InputError(f"data 'timm:{name}' needs a folder to be kept in: timm:{name}@FOLDER")
    parts: dict[PartName, Pictures] = {}
    classes: tuple[object, ...] = ()
    splits: tuple[tuple[PartName, str], ...] = (("train", "train"), ("test", "validation"))
    for part, split in splits:
        try:
            data = create_dataset(name, root=root, split=split, download=True)
        except (AssertionError, OSError, RuntimeError, TypeError) as error:
            raise InputError(f"data 'timm:{name}@{root}' cannot be read: {error}") from None
        labels = getattr(data, "targets", None)
        labels = getattr(data, "_labels", None) if labels is None else labels
        if labels is None:
            raise InputError(f"data 'timm:{name}' has no list of labels, which splitting needs")
        parts[part] = _indexed([int(label) for label in labels], IndexedSource(data, f"{name} {split}"))
        classes = tuple(getattr(data, "classes", ()) or range(max(parts[part].labels) + 1))
    return parts, tuple(str(label) for label in classes), ()


def _indexed(labels: list[int], source: IndexedSource) -> Pictures:
    return Pictures(labels, range(len(labels)), source)


def _hugging_face(name: str, root: str) -> _Read:
    try:
        import datasets  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: F401
    except ImportError:
        raise MissingExtra("datasets", "hf", f"data 'timm:{name}'") from None
    from timm.data.readers import create_reader

    parts: dict[PartName, Pictures] = {}
    classes: tuple[str, ...] = ()
    for part, splits in PARTS.items():
        for split in splits:
            if part in parts:
                continue
            try:
                reader = create_reader(name, root=root or None, split=split)
            except (ValueError, OSError, KeyError) as error:
                if split == "train":
                    raise InputError(
                        f"split 'train' of data 'timm:{name}' cannot be read: {' '.join(str(error).split())}"
                    ) from None
                continue
            labels = [int(label) for label in reader.dataset[reader.label_key]]
            parts[part] = _indexed(labels, IndexedSource(reader, f"{name} {split}"))
            classes = classes or _in_order(reader.class_to_idx) or tuple(map(str, range(max(labels) + 1)))
    return parts, classes, ()


def _in_order(indices: dict[str, int]) -> tuple[str, ...]:
    return tuple(sorted(indices, key=indices.__getitem__))


def _tar(path: Path, *, scoring: bool) -> _Read:
    files: dict[PartName, Path] = {"train": path}
    if path.is_dir():
        files = {
            part: path / f"{name}.tar"
            for part, names in PARTS.items()
            for name in names
            if (path / f"{name}.tar").is_file()
        }
    if not files or any(file.suffix != ".tar" or not file.is_file() for file in files.values()):
        raise InputError(
            f"data 'timm:{path}' is neither a .tar file nor a folder with train.tar (allowed: timm:PATH.tar, "
            "timm:PATH, timm:torch/NAME@FOLDER, timm:hfds/NAME)"
        )
    if path.is_file():
        layout, members = _layout(path)
        source = TarSource(str(path))
        return read_layout(layout, lambda part: source, lambda part, name: members[name], scoring=scoring)
    return _tar_parts(path, files, scoring=scoring)


def _layout(file: Path) -> tuple[Layout, dict[Names, Member]]:
    tree, members = read_tar(file)
    inner = unwrap(tree)
    return arrange(tree.below(inner)).within(inner), members


def _tar_parts(path: Path, files: dict[PartName, Path], *, scoring: bool) -> _Read:
    """One tar file for each split."""
    layouts = {part: _layout(file) for part, file in files.items()}
    for part, (layout, _) in layouts.items():
        if layout.divided:
            raise InputError(f"tar file {str(files[part])!r} holds splits of its own: give it alone")
    whole = Layout(
        str(path),
        {part: layout.parts["train"] for part, (layout, _) in layouts.items()},
        True,
        tuple(note for layout, _ in layouts.values() for note in layout.notes),
    )
    return read_layout(
        whole,
        lambda part: TarSource(str(files[part])),
        lambda part, name: layouts[part][1][name],
        scoring=scoring,
    )
