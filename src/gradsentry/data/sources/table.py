"""Parquet files and `datasets.Dataset`: tables that know their rows without being read."""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradsentry.data.sources.batches import BATCH, Forward, first_line, records, split_tables
from gradsentry.data.sources.common import cut, open_binary, paired, sha256_of
from gradsentry.errors import DataError
from gradsentry.types import Record, Shard

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa


READ_BUFFER = 1 << 20
"""Bytes of each column that are read at a time. Left to itself, pyarrow reads the columns of a row group whole."""


class ParquetSource:
    """A Parquet file. Row groups may be of any size: they are read in batches."""

    kind = "parquet"
    suffix = "parquet"

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.name = str(path)
        self._path = path
        open_binary(path).close()  # for the plainer message if the file cannot be opened at all
        try:
            self._file = pq.ParquetFile(path, buffer_size=READ_BUFFER, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path}: not a readable Parquet file: {first_line(error)}; write it again") from error
        twice = [repr(name) for name, count in Counter(self._file.schema_arrow.names).items() if count > 1]
        if twice:
            raise DataError(f"{path}: several columns are named {', '.join(twice)}; rename them")
        meta = self._file.metadata
        sizes = (meta.row_group(group).num_rows for group in range(meta.num_row_groups))
        self._bounds = [0, *accumulate(sizes)]
        self._forward = Forward(self._tables, self._bounds)

    def __reduce__(self) -> tuple[Any, ...]:
        return ParquetSource, (self._path,)  # an open file cannot be pickled

    def plan(self, shard_rows: int) -> list[Shard]:
        """Cut by the row count of the file's footer."""
        return cut(self._bounds[-1], shard_rows)

    def read(self, shard: Shard) -> Iterator[Record]:
        """The shard's rows, from the row groups that it touches."""
        for start, table in self._forward.tables(shard.start, shard.stop):

            def fetch(names: Sequence[str], low: int, high: int, table: pa.Table = table, start: int = start) -> dict[str, list[Any]]:
                return _columns(table, names, low - start, high - start)

            yield from records(self._path.name, start, start + len(table), table.column_names, fetch)

    def fingerprint(self) -> str:
        """SHA-256 of the file's bytes."""
        return self._sha256

    def split(self, flagged: Iterable[bool], kept: Path, flagged_path: Path) -> tuple[int, int]:
        """Write the rows to two Parquet files of the same schema."""
        return split_tables(self._tables(0), self._file.schema_arrow, flagged, kept, flagged_path, self.name)

    @cached_property
    def _sha256(self) -> str:
        return sha256_of(self._path)

    def _tables(self, start: int) -> Iterator[pa.Table]:
        """Batches from the first row of a row group on."""
        import pyarrow as pa

        for group in range(bisect_right(self._bounds, start) - 1, self._file.num_row_groups):
            try:
                for batch in self._file.iter_batches(BATCH, row_groups=[group]):
                    yield pa.Table.from_batches([batch])
            except (pa.ArrowException, OSError) as error:
                raise DataError(
                    f"{self.name}: row group {group} (rows {self._bounds[group]} to {self._bounds[group + 1] - 1}) "
                    f"cannot be read: {first_line(error)}; write the file again"
                ) from error


def parquet_tables(files: list[str], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of several files one after the other, cast to a schema as `datasets` casts them."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets.table import table_cast

    for path in files:
        with pq.ParquetFile(path, buffer_size=READ_BUFFER, pre_buffer=False) as file:
            for batch in file.iter_batches(BATCH):
                yield table_cast(pa.Table.from_batches([batch]), schema)


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
        self._view.info.features = Features(undecoded(dict(dataset.features)))

    def plan(self, shard_rows: int) -> list[Shard]:
        """Cut by the row count."""
        return cut(len(self._dataset), shard_rows)

    def read(self, shard: Shard) -> Iterator[Record]:
        """The shard's rows; images and the like are left as stored."""
        return records(self._place, shard.start, shard.stop, self._view.column_names, self._columns)

    def fingerprint(self) -> str:
        """The fingerprint that `datasets` keeps."""
        return self._fingerprint

    def split(self, flagged: Iterable[bool], kept: Path, flagged_path: Path) -> tuple[int, int]:
        """Write the rows to two directories with save_to_disk."""
        flags = np.fromiter((flag for _, flag in paired(range(len(self._dataset)), flagged, self.name)), dtype=bool)
        for mask, path in ((~flags, kept), (flags, flagged_path)):
            # Left to itself, save_to_disk writes no file for no rows, and load_from_disk then fails.
            self._dataset.select(np.flatnonzero(mask)).save_to_disk(path, num_shards=None if mask.any() else 1)
        return int((~flags).sum()), int(flags.sum())

    def _columns(self, names: Sequence[str], start: int, stop: int) -> dict[str, list[Any]]:
        view = self._view if len(names) == len(self._view.column_names) else self._view.select_columns(list(names))
        return view[start:stop]


def _columns(table: pa.Table, names: Sequence[str], start: int, stop: int) -> dict[str, list[Any]]:
    return table.select(list(names)).slice(start, stop - start).to_pydict()


def undecoded(feature: Any) -> Any:
    """The feature with the decoding of media switched off, at any depth. JSON stays decoded: it is text for models."""
    from datasets import Json, LargeList, List

    if isinstance(feature, dict):
        return {name: undecoded(inner) for name, inner in feature.items()}
    if isinstance(feature, List | LargeList):
        return dataclasses.replace(feature, feature=undecoded(feature.feature))
    if getattr(feature, "decode", False) and not isinstance(feature, Json):
        return dataclasses.replace(feature, decode=False)
    return feature
