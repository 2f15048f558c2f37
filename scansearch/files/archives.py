"""Zip archives of unknown origin (torch checkpoints and programs are such): refuse the dangerous ones unread."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath
from typing import IO

from scansearch.errors import InputError


def check_archive(file: Path | IO[bytes], source: str) -> list[str]:
    """The names in an archive, after checks that read its directory alone.

    torch stores entries uncompressed, so an archive cannot hold more than its own size: compressed entries,
    which could be bombs, are refused.

    Raises:
        InputError: naming ``source``; not an archive, a name that leads out of it or occurs twice, or compression.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"{source}: not a readable archive ({error})") from None
    seen: set[str] = set()
    for entry in entries:
        name = entry.filename
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
            raise InputError(f"{source}: the name {name[:60]!r} in the archive leads out of it")
        if name in seen:
            raise InputError(f"{source}: the name {name[:60]!r} occurs twice in the archive")
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise InputError(f"{source}: {name[:60]!r} is compressed, which torch's own archives never are")
        seen.add(name)
    return [entry.filename for entry in entries]
