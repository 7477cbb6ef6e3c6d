"""Parquet files."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradsentry.data.sources.files import open_binary, sha256_of
from gradsentry.data.sources.shards import Visitor, cut_into_shards
from gradsentry.data.sources.tables import BATCH_ROWS, ForwardReader, first_line, records, split_tables
from gradsentry.errors import DataError
from gradsentry.types import Record, Shard

if TYPE_CHECKING:
    import pyarrow as pa


READ_BUFFER = 1 << 20
"""Bytes of each column that are read at a time. By default pyarrow reads the columns of a whole row group."""


class ParquetSource:
    """A Parquet file. Row groups may be of any size: they are read in batches."""

    kind = "parquet"
    suffix = "parquet"
    notes = ()

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.name = str(path)
        self._path = path
        open_binary(path).close()  # its message for a file that cannot be opened is plainer than pyarrow's
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
        self._reader = ForwardReader(self._tables, self._bounds)
        self._sha256: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return ParquetSource, (self._path,)  # an open file cannot be pickled

    def plan(self, shard_rows: int) -> list[Shard]:
        """Cut by the row count in the file's footer."""
        return cut_into_shards(self._bounds[-1], shard_rows)

    def read(self, shard: Shard) -> Iterator[Record]:
        """The shard's rows, from the row groups that hold them."""
        for start, table in self._reader.tables(shard.start, shard.stop):
            yield from self._records(start, table)

    def _records(self, start: int, table: pa.Table) -> Iterator[Record]:
        """The rows of a table whose first row is row `start`."""

        def fetch(names: Sequence[str], low: int, high: int) -> dict[str, list[Any]]:
            return table.select(list(names)).slice(low - start, high - low).to_pydict()

        return records(self._path.name, start, start + len(table), table.column_names, fetch)

    def fingerprint(self) -> str:
        """SHA-256 of the file's bytes."""
        if self._sha256 is None:
            self._sha256 = sha256_of(self._path)
        return self._sha256

    def split(self, parts: Iterable[int], paths: Sequence[Path], visitor: Visitor | None = None) -> tuple[int, ...]:
        """Write the rows to Parquet files of the same schema."""
        return split_tables(self._tables(0), self._file.schema_arrow, parts, paths, self.name, self._records, visitor)

    def _tables(self, start: int) -> Iterator[pa.Table]:
        """Batches from `start` on, the first row of a row group."""
        import pyarrow as pa

        for group in range(bisect_right(self._bounds, start) - 1, self._file.num_row_groups):
            try:
                for batch in self._file.iter_batches(BATCH_ROWS, row_groups=[group]):
                    yield pa.Table.from_batches([batch])
            except (pa.ArrowException, OSError) as error:
                raise DataError(
                    f"{self.name}: row group {group} (rows {self._bounds[group]} to {self._bounds[group + 1] - 1}) "
                    f"cannot be read: {first_line(error)}; write the file again"
                ) from error


def tables_of_files(files: list[str], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of several files in order, cast to the schema as `datasets` casts them."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets.table import table_cast

    for path in files:
        with pq.ParquetFile(path, buffer_size=READ_BUFFER, pre_buffer=False) as file:
            for batch in file.iter_batches(BATCH_ROWS):
                yield table_cast(pa.Table.from_batches([batch]), schema)
