"""Zip archives of unknown origin (torch checkpoints and programs are such): refuse the dangerous ones unread."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO

from scansearch.errors import InputError
from scansearch.files.regular import read_regular

LARGEST = 2**31
# Sizes of what may follow an entry's content: nothing, or a record of its checksum and sizes.
_DESCRIPTORS = {0: b"", 16: b"PK\x07\x08", 24: b"PK\x07\x08"}


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


def read_archive(path: Path, source: str) -> dict[str, bytes]:
    """The entries of an archive that every reader of archives sees alike: name -> content, in the file's order.

    Beside what :func:`check_archive` refuses, the entries must stand one after the other from the first byte of
    the file to their directory, which must be the file's end. So nothing stands before, between or behind
    them that another reader could take for an archive of its own.

    Raises:
        InputError: naming ``source``; an archive of another layout, a wrong checksum, or one above 2 GiB.
    """
    data = read_regular(path, limit=LARGEST)
    names = check_archive(io.BytesIO(data), source)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check_layout(data, sorted(archive.infolist(), key=lambda entry: entry.header_offset), source)
            return {name: archive.read(name) for name in names}
    except InputError:
        raise
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        raise InputError(f"{source}: not a readable archive ({error})") from None


def write_archive(entries: Mapping[str, bytes]) -> io.BytesIO:
    """An archive of ``entries``, uncompressed, in memory."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    file.seek(0)
    return file


def _check_layout(data: bytes, entries: list[zipfile.ZipInfo], source: str) -> None:
    refusal = InputError(f"{source}: holds something beside its archive, or an archive in another layout")
    if len(data) < 22 or data[-22:-18] != b"PK\x05\x06" or data[-2:] != b"\0\0":
        raise refusal
    disk, first_disk, here, count, size, directory = struct.unpack("<HHHHII", data[-18:-2])
    if (disk, first_disk) != (0, 0) or not here == count == len(entries) or directory + size > len(data) - 22:
        raise refusal
    # torch writes the directory's place and size a second time, in 64 bits.
    again = data[directory + size : -22]
    if again and not (
        len(again) == 76
        and again[:4] == b"PK\x06\x06"
        and struct.unpack("<QIIQQQQ", again[4:12] + again[16:56]) == (44, 0, 0, count, count, size, directory)
        and struct.unpack("<4sIQI", again[56:]) == (b"PK\x06\x07", 0, directory + size, 1)
    ):
        raise refusal
    end = 0
    for entry in entries:
        gap = data[end : entry.header_offset]
        if _DESCRIPTORS.get(len(gap)) != gap[:4] or entry.flag_bits & 1:
            raise refusal
        header = data[entry.header_offset : entry.header_offset + 30]
        if len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise refusal
        end = entry.header_offset + 30 + sum(struct.unpack("<HH", header[26:])) + entry.compress_size
    gap = data[end:directory]
    if _DESCRIPTORS.get(len(gap)) != gap[:4]:
        raise refusal
