"""Parquet files and `datasets.Dataset`: tables that know their rows without being read."""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradsentry.errors import DataError
from gradsentry.sources.common import cut, open_binary, paired, sha256_of
from gradsentry.types import Record, Row, Shard

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

SLICE = 1024
"""Rows that are turned into Python objects at a time."""


class ParquetSource:
    """A Parquet file, read one row group at a time."""

    kind = "parquet"
    suffix = "parquet"

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.name = str(path)
        self._path = path
        open_binary(path).close()  # for the plainer message if the file cannot be opened at all
        try:
            self._file = pq.ParquetFile(path)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path}: not a readable Parquet file: {_first_line(error)}; write it again") from error
        twice = [repr(name) for name, count in Counter(self._file.schema_arrow.names).items() if count > 1]
        if twice:
            raise DataError(f"{path}: several columns are named {', '.join(twice)}; rename them")
        meta = self._file.metadata
        sizes = (meta.row_group(group).num_rows for group in range(meta.num_row_groups))
        self._bounds = [0, *accumulate(sizes)]
        self._latest: tuple[int, pa.Table] | None = None

    def plan(self, shard_rows: int) -> list[Shard]:
        """Cut by the row count of the file's footer."""
        return cut(self._bounds[-1], shard_rows)

    def read(self, shard: Shard) -> Iterator[Record]:
        """The shard's rows, from the row groups that it touches."""
        start = shard.start
        while start < shard.stop:
            group = bisect_right(self._bounds, start) - 1
            first, stop = self._bounds[group], min(shard.stop, self._bounds[group + 1])
            table = self._group(group)
            yield from _records(self._path.name, start, stop, lambda a, b, t=table, f=first: _rows(t, a - f, b - f))
            start = stop

    def fingerprint(self) -> str:
        """SHA-256 of the file's bytes."""
        return self._sha256

    def split(self, flagged: Iterable[bool], kept: Path, flagged_path: Path) -> tuple[int, int]:
        """Write the rows to two Parquet files of the same schema, row group by row group."""
        import pyarrow.parquet as pq

        flags = [flag for _, flag in paired(range(self._bounds[-1]), flagged, self.name)]
        schema = self._file.schema_arrow
        with pq.ParquetWriter(kept, schema) as kept_file, pq.ParquetWriter(flagged_path, schema) as flagged_file:
            for group, start in enumerate(self._bounds[:-1]):
                table, mask = self._group(group), flags[start : self._bounds[group + 1]]
                _append(kept_file, table, [not flag for flag in mask])
                _append(flagged_file, table, mask)
        return len(flags) - sum(flags), sum(flags)

    @cached_property
    def _sha256(self) -> str:
        return sha256_of(self._path)

    def _group(self, group: int) -> pa.Table:
        """A row group. The latest is remembered: shards are mostly smaller than groups and come in order."""
        import pyarrow as pa

        if self._latest is None or self._latest[0] != group:
            self._latest = None  # two groups in memory would be one too many
            try:
                self._latest = group, self._file.read_row_group(group)
            except (pa.ArrowException, OSError) as error:
                raise DataError(
                    f"{self.name}: row group {group} (rows {self._bounds[group]} to {self._bounds[group + 1] - 1}) "
                    f"cannot be read: {_first_line(error)}; write the file again"
                ) from error
        return self._latest[1]


class DatasetSource:
    """A `datasets.Dataset`."""

    kind = "dataset"
    suffix = "dataset"

    def __init__(self, dataset: datasets.Dataset, name: str, place: str) -> None:
        """`name` is for the report, `place` for naming rows."""
        from datasets import Features

        self.name = name
        self._place = place
        self._fingerprint = dataset._fingerprint  # of what was given: with_format makes another
        self._dataset = dataset.with_format(None)
        self._view = dataset.with_format(None)
        # Decoding images and sound is slow, needs more packages and would tell the scores nothing.
        self._view.info.features = Features(_undecoded(dict(dataset.features)))

    def plan(self, shard_rows: int) -> list[Shard]:
        """Cut by the row count."""
        return cut(len(self._dataset), shard_rows)

    def read(self, shard: Shard) -> Iterator[Record]:
        """The shard's rows; images and the like are left as stored."""
        return _records(self._place, shard.start, shard.stop, self._slice)

    def fingerprint(self) -> str:
        """The fingerprint that `datasets` keeps."""
        return self._fingerprint

    def split(self, flagged: Iterable[bool], kept: Path, flagged_path: Path) -> tuple[int, int]:
        """Write the rows to two directories with save_to_disk."""
        indices: tuple[list[int], list[int]] = ([], [])
        for row, flag in paired(range(len(self._dataset)), flagged, self.name):
            indices[flag].append(row)
        for chosen, path in zip(indices, (kept, flagged_path), strict=True):
            # Left to itself, save_to_disk writes no file for no rows, and load_from_disk then fails.
            self._dataset.select(chosen).save_to_disk(path, num_shards=None if chosen else 1)
        return len(indices[0]), len(indices[1])

    def _slice(self, start: int, stop: int) -> list[Row]:
        columns = self._view[start:stop]
        return [{name: values[at] for name, values in columns.items()} for at in range(stop - start)]


def _records(name: str, start: int, stop: int, fetch: Callable[[int, int], list[Row]]) -> Iterator[Record]:
    """The rows as records, fetched in slices; if a slice fails, row by row to find the one to blame."""
    for low in range(start, stop, SLICE):
        high = min(low + SLICE, stop)
        try:
            rows = fetch(low, high)
        except _unreadable():
            yield from (_single(name, row, fetch) for row in range(low, high))
        else:
            for row, value in enumerate(rows, low):
                yield Record(row, f"{name} row {row}", value)


def _single(name: str, row: int, fetch: Callable[[int, int], list[Row]]) -> Record:
    place = f"{name} row {row}"
    try:
        return Record(row, place, fetch(row, row + 1)[0])
    except _unreadable() as error:
        problem = f"a value cannot be read: {_first_line(error)}"
        return Record(row, place, None, f"{place}: {problem}; mend or remove the row")


def _unreadable() -> tuple[type[Exception], ...]:
    """What conversion to Python objects raises: text that is not UTF-8, dates out of range, broken types."""
    import pyarrow as pa

    return (pa.ArrowException, ValueError, OverflowError)


def _rows(table: pa.Table, start: int, stop: int) -> list[Row]:
    return table.slice(start, stop - start).to_pylist()


def _append(writer: Any, table: pa.Table, mask: list[bool]) -> None:
    if any(mask):  # an empty row group would be noise
        import pyarrow as pa

        writer.write_table(table.filter(pa.array(mask)))


def _undecoded(feature: Any) -> Any:
    """The feature with the decoding of media switched off, at any depth. JSON stays decoded: it is text for models."""
    from datasets import Json, LargeList, List

    if isinstance(feature, dict):
        return {name: _undecoded(inner) for name, inner in feature.items()}
    if isinstance(feature, List | LargeList):
        return dataclasses.replace(feature, feature=_undecoded(feature.feature))
    if getattr(feature, "decode", False) and not isinstance(feature, Json):
        return dataclasses.replace(feature, decode=False)
    return feature


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
