"""Values as pandas tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame as DataFrame


def table_of(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None) -> DataFrame:
    """``rows`` as a pandas table; ``columns`` are its columns in order, which it has without any row too."""
    import pandas

    return pandas.DataFrame(list(rows), columns=None if columns is None else list(columns))
