"""How data are specified, by kind. Names only, so importing this is free."""

from __future__ import annotations

from pathlib import Path, PurePath

MOST_WORKERS = 256  # processes that read images
PRESETS = ("none", "light", "imagenet")  # of augmentation
SPECIFICATIONS = {
    "digits": "digits",
    "folder": "folder:PATH",
    "timm": "timm:NAME",
    "fake": "fake:HxW:classes",
    "translated-digits": "translated-digits",
    "planted": "planted:PATTERN",
}
MASKED = {"shapes": "shapes:HxW:count", "masks": "masks:PATH", "ade": "ade:PATH"}  # of --task segment
BOXED = {"shapes": "shapes:HxW:count", "coco": "coco:PATH"}  # of --task detect
_OF_FOLDERS = ("folder", "masks", "ade", "coco")


def without_folders(specification: str) -> str:
    """``specification`` as it may be published: of a path that starts at this machine's root, only the last name.

    What follows an ``@``, the folder that a data set is kept in, is left out.
    """
    kind, colon, argument = specification.partition(":")
    if kind == "timm":
        argument = argument.partition("@")[0]
    path = PurePath(argument)
    return kind + colon + (path.name if path.is_absolute() or argument.startswith("~") else argument)


def absolute(specification: str) -> str:
    """``specification`` as it may be read from another working folder: with absolute paths."""
    kind, _, argument = specification.partition(":")
    if kind not in SPECIFICATIONS and specification and Path(specification).expanduser().is_dir():
        return f"folder:{Path(specification).expanduser().absolute()}"
    if kind in _OF_FOLDERS and argument:
        return f"{kind}:{Path(argument).expanduser().absolute()}"
    if kind != "timm" or not argument:
        return specification
    name, at, root = argument.partition("@")
    if at:
        return f"timm:{name}@{Path(root).expanduser().absolute()}" if root else specification
    path = Path(name).expanduser()
    return f"timm:{path.absolute()}" if path.exists() else specification
