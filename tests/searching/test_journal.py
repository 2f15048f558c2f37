"""Journals that cannot be read or written: one line, and no trial is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from scansearch.errors import InputError, RunStopped
from scansearch.searching.evolution import evolve

CANDIDATES = [["h", "v"]] * 2


@pytest.mark.parametrize("damage", ["{", "[]", "\x00\x01", '{"op_code": 99}', "null"])
def test_a_damaged_journal_is_refused_in_one_line(damage: str, tmp_path: Path) -> None:
    journal = tmp_path / "evolution.journal"
    evolve(CANDIDATES, lambda layers: 1.0, k=1, evaluations=2, journal=journal)
    with open(journal, "a", encoding="utf-8") as file:
        file.write(damage + "\n")
    before = journal.read_bytes()
    with pytest.raises(InputError, match="is damaged") as refused:
        evolve(CANDIDATES, lambda layers: 1.0, k=1, evaluations=4, journal=journal)
    assert "\n" not in str(refused.value)
    assert journal.read_bytes().startswith(before)


def test_a_journal_that_cannot_be_written_stops_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(RunStopped, match="cannot write"):
        evolve(CANDIDATES, lambda layers: 1.0, k=1, journal=tmp_path / "file" / "evolution.journal")


def test_a_line_that_a_killed_process_did_not_finish_is_cut_off(tmp_path: Path) -> None:
    journal = tmp_path / "evolution.journal"
    evolve(CANDIDATES, lambda layers: 1.0, k=1, evaluations=2, journal=journal)
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":4,"worker')
    result = evolve(CANDIDATES, lambda layers: 1.0, k=1, evaluations=4, journal=journal)
    assert len(result.scored) == 4
    assert journal.read_bytes().startswith(whole)
