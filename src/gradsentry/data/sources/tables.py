"""Arrow tables of a bounded number of rows, from Parquet files and streams: read in order, split into several files."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradsentry.data.fields import Unreadable
from gradsentry.data.sources.shards import Visitor, row_count_changed
from gradsentry.types import Record

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 1024
"""Rows that are held at a time."""
GROUP_BYTES = 16 << 20
"""Size in memory, in bytes, at which rows that wait to be written become a row group."""

Fetch = Callable[[Sequence[str], int, int], Mapping[str, list[Any]]]
"""Called with names of columns, a first row and the row after the last one; returns the values of each column."""


class ForwardReader:
    """Any rows from batches that can only be read forward.

    A read that continues the last one opens nothing. A read that goes back, or past a later start, opens the batches again.
    Interleaved reads are slow but correct. Two threads may not read at once.
    """

    def __init__(self, open_at: Callable[[int], Iterator[pa.Table]], starts: Sequence[int] = (0,)) -> None:
        """`open_at` yields the batches from one of the `starts` on. These are row numbers, ascending, the first one 0."""
        self._open_at = open_at
        self._starts = starts
        self._batches: Iterator[pa.Table] = iter(())
        self._latest: tuple[int, pa.Table] | None = None

    def tables(self, start: int, stop: int) -> Iterator[tuple[int, pa.Table]]:
        """Rows `start` to `stop` as tables, each with the number of its first row; fewer rows where the data ends before `stop`."""
        while start < stop and (found := self._batch_with(start)):
            first, batch = found
            table = batch.slice(start - first, stop - start)
            yield start, table
            start += len(table)

    def _batch_with(self, row: int) -> tuple[int, pa.Table] | None:
        """The number of the first row of the batch that holds the row, and that batch; None after the last row."""
        anchor = self._starts[bisect_right(self._starts, row) - 1]
        latest, self._latest = self._latest, None  # if anything below fails, the next read opens the batches again
        if latest is None or row < latest[0] or anchor > latest[0] + len(latest[1]):
            self._batches = self._open_at(anchor)
            first, batch = anchor, next(self._batches, None)
        else:
            first, batch = latest
        while batch is not None and row >= first + len(batch):
            first += len(batch)
            batch = next(self._batches, None)
        if batch is not None:
            self._latest = first, batch
        return self._latest


def records(place: str, start: int, stop: int, columns: Sequence[str], fetch: Fetch) -> Iterator[Record]:
    """The rows as records, fetched in batches. A value that cannot be read becomes an `Unreadable` cell."""
    for low in range(start, stop, BATCH_ROWS):
        high = min(low + BATCH_ROWS, stop)
        try:
            held = fetch(columns, low, high)
        except _unreadable():
            held = {name: _cells(name, low, high, fetch) for name in columns}
        for row in range(low, high):
            yield Record(row, f"{place} row {row}", {name: values[row - low] for name, values in held.items()})


def _cells(column: str, low: int, high: int, fetch: Fetch) -> list[Any]:
    """A column's values. Where some cannot be read, the rows are halved until each bad value is found."""
    try:
        return fetch([column], low, high)[column]
    except _unreadable() as error:
        if high - low == 1:
            return [Unreadable(first_line(error))]
    middle = (low + high) // 2
    return [*_cells(column, low, middle, fetch), *_cells(column, middle, high, fetch)]


def _unreadable() -> tuple[type[Exception], ...]:
    """Errors of the conversion to Python objects: text that is not UTF-8, dates out of range, broken types."""
    import pyarrow as pa

    return (pa.ArrowException, ValueError, OverflowError)


def first_line(error: Exception) -> str:
    """The first line of the error's message, or the error's type where it has none."""
    return str(error).partition("\n")[0] or type(error).__name__


def split_tables(
    tables: Iterable[pa.Table],
    schema: pa.Schema,
    parts: Iterable[int],
    paths: Sequence[Path],
    name: str,
    to_records: Callable[[int, pa.Table], Iterator[Record]],
    visitor: Visitor | None,
) -> tuple[int, ...]:
    """Write each row to one of several Parquet files, as `Source.split` does.

    Args:
        to_records: from the number of a table's first row and the table to its rows.
    """
    of_rows, counts = iter(parts), [0] * len(paths)
    with ExitStack() as stack:
        files = [stack.enter_context(_GroupWriter(path, schema)) for path in paths]
        for table in tables:
            part_of = np.fromiter(islice(of_rows, len(table)), dtype=np.int64)
            if len(part_of) < len(table):
                raise row_count_changed(name, "more")
            if visitor is not None:
                start = sum(counts)
                for row in sorted(visitor.wanted.intersection(range(start, start + len(table)))):
                    visitor.add(next(to_records(row, table.slice(row - start, 1))))
            for part, file in enumerate(files):
                file.add(_where(table, part_of == part))
                counts[part] += int((part_of == part).sum())
    if next(of_rows, None) is not None:
        raise row_count_changed(name, "fewer")
    return tuple(counts)


def _where(table: pa.Table, mask: NDArray[np.bool_]) -> pa.Table:
    """The rows where the mask is true."""
    import pyarrow as pa

    try:
        return table.filter(pa.array(mask))
    except pa.ArrowNotImplementedError:  # string views and some other types cannot be filtered, but any table can be sliced
        edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
        runs = [table.slice(start, stop - start) for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)]
        return pa.concat_tables([table.slice(0, 0), *runs]).combine_chunks()  # slices of a struct of views cannot be written


class _GroupWriter:
    """Writes a Parquet file in row groups of about GROUP_BYTES from tables of any size."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        import pyarrow.parquet as pq

        self._file = pq.ParquetWriter(path, schema)
        self._waiting: list[pa.Table] = []
        self._bytes = 0

    def __enter__(self) -> _GroupWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is None:
            self._write_group()
        self._file.close()

    def add(self, table: pa.Table) -> None:
        """Write the rows, now or with later ones."""
        if len(table) == 0:
            return
        self._waiting.append(table)
        self._bytes += table.nbytes
        if self._bytes >= GROUP_BYTES:
            self._write_group()

    def _write_group(self) -> None:
        import pyarrow as pa

        if self._waiting:  # write no empty row group
            self._file.write_table(pa.concat_tables(self._waiting))
        self._waiting, self._bytes = [], 0
