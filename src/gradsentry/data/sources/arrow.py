"""Tables in memory: a pandas DataFrame, a pyarrow Table, or anything else that hands out Arrow data, such as a polars DataFrame."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradsentry.data.sources.shards import Visitor, cut_into_shards, visit_by_row
from gradsentry.data.sources.tables import records, split_tables
from gradsentry.errors import DataError
from gradsentry.types import Record, Shard

if TYPE_CHECKING:
    import pyarrow as pa


def as_table(data: Any) -> pa.Table | None:
    """The data as an Arrow table; None if it is no table.

    Raises:
        DataError: a column holds values of several types, or two columns have one name.
    """
    import pyarrow as pa

    if not hasattr(data, "__arrow_c_stream__"):
        return None
    kind = type(data).__name__
    try:
        table = pa.table(data)
    except (pa.ArrowException, TypeError, ValueError) as error:
        reason, advice = "; ".join(map(str, error.args)), "give its columns values of one type, or the rows as a list of dicts"
        raise DataError(f"the {kind} cannot be read as an Arrow table: {reason}; {advice}") from error
    twice = [repr(name) for name, count in Counter(table.column_names).items() if count > 1]
    if twice:
        raise DataError(f"the {kind} has several columns that are named {', '.join(twice)}; rename them")
    return table


class TableSource:
    """An Arrow table. It is written as Parquet, with the index of a DataFrame."""

    name = "table"
    kind = "table"
    suffix = "parquet"
    notes = ()

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def plan(self, shard_rows: int) -> list[Shard]:
        """Cut by the row count."""
        return cut_into_shards(len(self._table), shard_rows)

    def read(self, shard: Shard) -> Iterator[Record]:
        """The shard's rows."""
        return records("table", shard.start, shard.stop, self._table.column_names, self._columns)

    def fingerprint(self) -> str:
        """SHA-256 of the types and values, however they are chunked."""
        digest = hashlib.sha256(str(self._table.schema.remove_metadata()).encode())
        for batch in self._table.combine_chunks().to_batches():
            digest.update(batch.serialize())
        return digest.hexdigest()

    def split(self, parts: Iterable[int], paths: Sequence[Path], visitor: Visitor | None = None) -> tuple[int, ...]:
        """Write the rows to Parquet files of the same schema."""
        counts = split_tables([self._table], self._table.schema, parts, paths, self.name, lambda *_: iter(()), None)
        visit_by_row(self.read, visitor)
        return counts

    def _columns(self, names: Sequence[str], start: int, stop: int) -> dict[str, list[Any]]:
        return self._table.select(list(names)).slice(start, stop - start).to_pydict()
