"""Streams of the `datasets` library, from the Hub or a directory: rows that are read in order, without a copy on disk.

A caller's own `IterableDataset` is not read here. Nothing says whether it gives the same rows twice, so `copy_stream` writes it to disk.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradsentry.data.sources.dataset import DatasetSource, library_errors, without_decoding
from gradsentry.data.sources.files import sha256_of
from gradsentry.data.sources.shards import Visitor, cut_into_shards, row_count_changed
from gradsentry.data.sources.tables import BATCH_ROWS, ForwardReader, first_line, records, split_tables
from gradsentry.errors import DataError, UsageError
from gradsentry.types import Record, Shard

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

log = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class StreamSource:
    """A stream whose content is known by a commit or by its files. It is written as Parquet, with the types of its columns.

    It is read once for all shards in order, and once for the split; once more before the first shard where its description lacks the
    row count or the types of the columns.
    """

    stream: datasets.IterableDataset
    name: str
    """For messages and the report."""
    place: str
    """Names rows."""
    identity: Callable[[], str]
    """Gives the fingerprint."""
    rows: int | None = None
    """The row count, where the data set's description has it."""
    arrow: bool = False
    """Whether `datasets` reads the stream as Arrow tables, not as Python objects."""
    tables: Callable[[], Iterator[pa.Table]] | None = None
    """Gives the same rows in small tables, where `datasets` would hold too many rows at a time."""
    notes: tuple[str, ...] = ()
    """Of `Source`."""

    kind = "stream"
    suffix = "parquet"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_reader"}  # an open pass cannot be pickled

    def plan(self, shard_rows: int) -> list[Shard]:
        """Cut by the row count: that of the data set's description, else that of a pass over the rows."""
        return cut_into_shards(self._rows_and_features[0], shard_rows)

    def read(self, shard: Shard) -> Iterator[Record]:
        """The shard's rows; media are left as stored.

        Raises:
            DataError: there are more or fewer rows than were described or counted.
        """
        row = shard.start
        for start, table in self._reader.tables(shard.start, shard.stop):
            yield from self._records(start, table)
            row = start + len(table)
        if row < shard.stop:
            raise self._wrong_count("fewer")
        if row == self.rows and any(self._reader.tables(row, row + 1)):
            raise self._wrong_count("more")

    def _records(self, start: int, table: pa.Table) -> Iterator[Record]:
        fetch = partial(_columns, table, self._rows_and_features[1], start)
        return records(self.place, start, start + len(table), table.column_names, fetch)

    def fingerprint(self) -> str:
        """The Hub's commit, or a hash of the files."""
        return self.identity()

    def split(self, parts: Iterable[int], paths: Sequence[Path], visitor: Visitor | None = None) -> tuple[int, ...]:
        """Write the rows to Parquet files."""
        return split_tables(self._tables(0), self._rows_and_features[1].arrow_schema, parts, paths, self.name, self._records, visitor)

    @cached_property
    def _reader(self) -> ForwardReader:
        return ForwardReader(self._tables)

    @cached_property
    def _rows_and_features(self) -> tuple[int, datasets.Features]:
        """The row count and the types of the columns. What the description lacks is found in one pass over the rows."""
        import pyarrow as pa
        from datasets import Features

        features = self.stream.features
        if self.rows is not None and features is not None:
            return self.rows, features
        log.info("reading %s once to count its rows%s", self.name, "" if features else " and find the types of its columns")
        rows, schema = 0, pa.schema([])
        for table in self._batches(self.stream):
            rows += len(table)
            schema = merge_schemas(schema, table.schema, self.name)
        return self.rows or rows, features or Features.from_arrow_schema(schema)

    def _tables(self, _start: int) -> Iterator[pa.Table]:
        """Batches from the first row on, with the types of the columns."""
        features = self._rows_and_features[1]
        return self._batches(self.stream if self.stream.features is not None else self.stream.cast(features))

    def _batches(self, stream: datasets.IterableDataset) -> Iterator[pa.Table]:
        return read_tables(stream, self.name, self.arrow, self.tables)

    def _wrong_count(self, how: str) -> DataError:
        if self.rows is None:
            return row_count_changed(self.name, how)
        return DataError(f"{self.name}: it has {how} rows than the {self.rows} of its description; read it without --streaming")


def read_tables(
    stream: datasets.IterableDataset, name: str, arrow: bool, small_tables: Callable[[], Iterator[pa.Table]] | None = None
) -> Iterator[pa.Table]:
    """One pass over the rows, in tables of at most BATCH_ROWS rows; media are left as stored.

    Args:
        arrow: whether `datasets` reads the stream as Arrow tables, not as Python objects.
        small_tables: gives the same rows, where `datasets` would hold too many rows at a time.

    Raises:
        DataError: a row cannot be read.
    """
    import pyarrow as pa

    stored = stream.decode(False) if stream.features else stream
    schema = stored.features.arrow_schema if stored.features else None
    # As Arrow tables, Python objects would get types inferred row by row; from_pydict takes the types of the schema.
    batches = stored.with_format("arrow" if arrow and schema else None).iter(BATCH_ROWS)
    row = 0
    try:
        for batch in small_tables() if small_tables else batches:
            table = batch if isinstance(batch, pa.Table) else pa.Table.from_pydict(batch, schema)
            yield table
            row += len(table)
    except library_errors() as error:
        raise DataError(
            f"{name}: its rows from {row} on cannot be read: {first_line(error)}; mend the data, or try again if the connection failed"
        ) from error


def merge_schemas(one: pa.Schema, other: pa.Schema, name: str) -> pa.Schema:
    """A schema whose types fit the rows of both: null and integers become the other type, integers beside floats become floats.

    Raises:
        DataError: a column has types that do not fit.
    """
    import pyarrow as pa

    try:
        return pa.unify_schemas([one, other.remove_metadata()], promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(f"{name}: a column has several types: {first_line(error)}; give its columns types that fit all rows") from error


def _columns(table: pa.Table, features: datasets.Features, first: int, names: Sequence[str], start: int, stop: int) -> dict[str, list[Any]]:
    """Columns of a table that begins at row `first`, with media as stored."""
    from datasets import Dataset, DatasetInfo, Features
    from datasets.table import InMemoryTable

    info = DatasetInfo(features=Features(without_decoding({name: features[name] for name in names})))
    rows = table.select(list(names)).slice(start - first, stop - start)
    return Dataset(InMemoryTable(rows), info=info, fingerprint="batch")[:]


def copy_stream(stream: datasets.IterableDataset, name: str, place: str, notes: tuple[str, ...] = ()) -> DatasetSource:
    """Read the stream once, into an Arrow file in the cache of `datasets`, and return the source for that file.

    The fingerprint is the file's SHA-256. The file is deleted with the source, or when Python exits.

    Raises:
        UsageError: the stream has no end.
        DataError: its rows cannot be read, or a column has several types.
    """
    from datasets import Dataset, config

    steps = _steps(stream)
    if any(type(step).__name__ == "RepeatExamplesIterable" and step.num_times is None for step in steps):  # it would fill the disk
        raise UsageError(f"{name}: the stream is repeated without end; leave out repeat(), or take(n) rows of it")
    cache = Path(config.HF_DATASETS_CACHE)
    cache.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="gradsentry-", dir=cache))
    log.info("copying %s to %s, because it may give other rows the next time", name, folder)
    file = folder / "data.arrow"
    try:
        _write(file, stream, name, arrow=bool(steps) and getattr(steps[0], "iter_arrow", None) is not None)
        source = DatasetSource(Dataset.from_file(str(file)), name, place, sha256_of(file), notes)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(source, shutil.rmtree, folder, ignore_errors=True)
    return source


def _write(file: Path, stream: datasets.IterableDataset, name: str, arrow: bool) -> None:
    """Write the stream's rows as one Arrow stream. Where it does not know its columns' types, they are those that fit all rows."""
    import pyarrow as pa
    from datasets import Features

    tables = read_tables(stream, name, arrow)
    if stream.features is not None:
        _write_tables(file, stream.features.arrow_schema, tables)
        return
    count, schema, first = 0, pa.schema([]), file.with_suffix(".untyped")
    with first.open("wb") as output:
        for table in tables:
            with pa.ipc.new_stream(output, table.schema) as writer:
                writer.write_table(table)
            count, schema = count + 1, merge_schemas(schema, table.schema, name)
    schema = Features.from_arrow_schema(schema).arrow_schema
    with first.open("rb") as stored:
        untyped = (pa.ipc.open_stream(stored).read_all() for _ in range(count))
        _write_tables(file, schema, (pa.concat_tables([schema.empty_table(), table], promote_options="permissive") for table in untyped))
    first.unlink()


def _write_tables(file: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    import pyarrow as pa

    with pa.ipc.new_stream(file, schema) as writer:
        for table in tables:
            writer.write_table(table.cast(schema).combine_chunks())


def _steps(stream: datasets.IterableDataset) -> list[Any]:
    """The steps that make up a stream (map, repeat, take), the last one first.

    `datasets` has no public way to them. Where its internals have other names the list is empty, which costs speed and one check.
    """

    steps, step = [], getattr(stream, "_ex_iterable", None)
    while step is not None:
        steps.append(step)
        step = getattr(step, "ex_iterable", None)
    return steps
