"""The journal of an evolution: whose processes write in it, and what is wrong with a damaged one."""

from __future__ import annotations

import hashlib
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scansearch.errors import InputError, RunStopped


def machine() -> str:
    """What tells this machine from others in a journal, without its name: journals are published."""
    return hashlib.sha256(f"scansearch {socket.gethostname()} {uuid.getnode()}".encode()).hexdigest()[:16]


@contextmanager
def readable(journal: Path | None) -> Iterator[None]:
    """What Optuna raises for a journal that it cannot read or write, in one line.

    Raises:
        InputError: the journal is damaged. RunStopped: it cannot be written.
    """
    try:
        yield
    except (InputError, RunStopped):
        raise
    except OSError as error:
        raise RunStopped(f"cannot write {str(journal)!r}: {error.strerror or error}") from error
    except Exception as error:  # a torn or foreign line: whatever its reader does not expect
        if journal is None:
            raise
        raise InputError(
            f"journal {str(journal)!r} is damaged ({type(error).__name__}): remove it to start the evolution anew"
        ) from None


def repair(journal: Path) -> None:
    """Cut off a last line that a killed process did not finish; to be called while nobody writes.

    Raises:
        OSError: the journal cannot be written.
    """
    content = journal.read_bytes() if journal.is_file() else b""
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(journal, whole)
