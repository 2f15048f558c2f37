"""How data are specified, by kind. Names only, so importing this is free."""

from __future__ import annotations

from pathlib import PurePath

MOST_WORKERS = 256  # processes that read images
PRESETS = ("none", "light", "imagenet")  # of augmentation
SPECIFICATIONS = {
    "digits": "digits",
    "folder": "folder:PATH",
    "timm": "timm:NAME",
    "fake": "fake:HxW:classes",
    "translated-digits": "translated-digits",
}


def without_folders(specification: str) -> str:
    """``specification`` as it may be published: of a path that starts at this machine's root, only the last name.

    What follows an ``@``, the folder that a data set is kept in, is left out.
    """
    kind, colon, argument = specification.partition(":")
    if kind == "timm":
        argument = argument.partition("@")[0]
    path = PurePath(argument)
    return kind + colon + (path.name if path.is_absolute() or argument.startswith("~") else argument)
