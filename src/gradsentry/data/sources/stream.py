"""`datasets` streams: rows that come one after the other, from the Hub, a directory or a caller's IterableDataset."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradsentry.data.sources.batches import BATCH, Forward, first_line, records, split_tables
from gradsentry.data.sources.common import changed, cut
from gradsentry.data.sources.rows import json_line
from gradsentry.data.sources.table import undecoded
from gradsentry.errors import DataError, UsageError
from gradsentry.types import Record, Shard

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

log = logging.getLogger(__name__)


class StreamSource:
    """A `datasets.IterableDataset`. It is written as Parquet, with the types that `datasets` gives its columns.

    Rows are read more than once: shards in order in one pass, the rows of the report and the split in one each. What
    the stream does not say of itself is found by reading it once more, before the first shard.
    """

    kind = "stream"
    suffix = "parquet"

    def __init__(
        self,
        stream: datasets.IterableDataset,
        name: str,
        place: str,
        *,
        rows: int | None = None,
        identity: Callable[[], str] | None = None,
        tables: Callable[[], Iterator[pa.Table]] | None = None,
    ) -> None:
        """`name` is for the report, `place` for naming rows.

        Args:
            rows: How many there are, where the data set's description says so.
            identity: Gives the fingerprint of a stream that is the same each time it is read. None: the rows are hashed,
                and each later pass is held against the hashes.
            tables: Gives the same rows in small tables, where the stream itself would hold too many at a time.

        Raises:
            UsageError: The stream never ends.
        """
        if _endless(stream):
            raise UsageError(f"{name}: the stream is repeated without end; leave out repeat(), or take(n) rows of it")
        self.name = name
        self._place = place
        self._stream = stream
        self._told = rows
        self._identity = identity
        self._small_tables = tables

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_forward"}  # it holds an open pass

    def plan(self, shard_rows: int) -> list[Shard]:
        """Cut by the row count: the one that the data set's description gives, else that of a pass."""
        return cut(self._rows, shard_rows)

    def read(self, shard: Shard) -> Iterator[Record]:
        """The shard's rows; images and the like are left as stored.

        Raises:
            DataError: There are more or fewer rows than were told or counted, or others than in the pass before.
        """
        row = shard.start
        for start, table in self._forward.tables(shard.start, shard.stop):
            yield from self._records(start, table)
            row = start + len(table)
        if row < shard.stop:
            raise self._other("fewer")
        if row == self._told and any(self._forward.tables(row, row + 1)):
            raise self._other("more")

    def fingerprint(self) -> str:
        """What the data set's origin says of the content, else SHA-256 of the rows."""
        if self._identity is not None:
            return self._identity()
        return hashlib.sha256(b"".join(self._survey[1])).hexdigest()

    def split(self, flagged: Iterable[bool], kept: Path, flagged_path: Path) -> tuple[int, int]:
        """Write the rows to two Parquet files."""
        return split_tables(self._tables(0), self._features.arrow_schema, flagged, kept, flagged_path, self.name)

    @property
    def _rows(self) -> int:
        return self._survey[0] if self._told is None else self._told

    @property
    def _features(self) -> datasets.Features:
        features = self._typed.features
        assert features is not None  # that is what typed means
        return features

    @cached_property
    def _forward(self) -> Forward:
        return Forward(self._tables)

    @cached_property
    def _survey(self) -> tuple[int, list[bytes]]:
        """The rows, counted, and a hash of each batch where nothing else stands for the content."""
        stream, rows, digests = self._typed, 0, []
        log.info("reading %s once to count its rows", self.name)
        for table in self._batches(stream):
            if self._identity is None:
                digests.append(self._digest(table))
            rows += len(table)
        return rows, digests

    @cached_property
    def _typed(self) -> datasets.IterableDataset:
        """The stream with types for its columns. Where it has none, they are what fits the columns of all batches."""
        if self._stream.features is not None:
            return self._stream
        import pyarrow as pa
        from datasets import Features

        log.info("reading %s once to find the types of its columns", self.name)
        schema = pa.schema([])
        for table in self._batches(self._stream):
            try:
                schema = pa.unify_schemas([schema, table.schema.remove_metadata()], promote_options="permissive")
            except pa.ArrowException as error:
                raise DataError(f"{self.name}: a column has several types: {first_line(error)}; cast the stream, or save it") from error
        return self._stream.cast(Features.from_arrow_schema(schema))

    def _tables(self, _start: int) -> Iterator[pa.Table]:
        """Batches from the first row on, the same as in the pass that hashed them."""
        if self._identity is not None:
            yield from self._batches(self._typed)
            return
        for table, digest in zip_longest(self._batches(self._typed), self._survey[1]):
            if table is None or digest is None:
                raise self._other("more" if digest is None else "fewer")
            if self._digest(table) != digest:
                raise self._other("other")
            yield table

    def _batches(self, stream: datasets.IterableDataset) -> Iterator[pa.Table]:
        """One pass, in tables of about BATCH rows."""
        row = 0
        try:
            for table in self._small_tables() if self._small_tables else self._pass(stream):
                yield table
                row += len(table)
        except problems() as error:
            raise DataError(
                f"{self.name}: its rows from {row} on cannot be read: {first_line(error)}; mend the data, or try again if the "
                "connection failed"
            ) from error

    def _pass(self, stream: datasets.IterableDataset) -> Iterator[pa.Table]:
        import pyarrow as pa

        # Decoding images and sound is slow, needs more packages and would tell the scores nothing.
        stored = stream.decode(False) if stream.features else stream
        # `datasets` gives rows that come as Python objects types of their own, each row for itself: not if we can help it.
        typed = self._stream.features is not None and stored._ex_iterable.iter_arrow is not None
        schema = stored.features.arrow_schema if stored.features else None
        for batch in stored.with_format("arrow" if typed else None).iter(BATCH):
            yield batch if isinstance(batch, pa.Table) else pa.Table.from_pydict(batch, schema)

    def _records(self, start: int, table: pa.Table) -> Iterator[Record]:
        return records(self._place, start, start + len(table), table.column_names, partial(_decoded, table, self._features, start))

    def _digest(self, table: pa.Table) -> bytes:
        digest = hashlib.sha256()
        for record in self._records(0, table):
            digest.update(json_line(record.value, sort_keys=True))
        return digest.digest()

    def _other(self, how: str) -> DataError:
        if self._identity is None:
            return DataError(f"{self.name}: read again it gives {how} rows; save a stream that is shuffled anew or can be used once only")
        if self._told is None:
            return changed(self.name, how)
        return DataError(f"{self.name}: it has {how} rows than the {self._told} that its description tells; read it without streaming")


def _decoded(table: pa.Table, features: datasets.Features, first: int, names: Sequence[str], start: int, stop: int) -> dict[str, list[Any]]:
    """Columns of a table that begins at row `first`, with media as stored."""
    from datasets import Dataset, DatasetInfo, Features
    from datasets.table import InMemoryTable

    info = DatasetInfo(features=Features(undecoded({name: features[name] for name in names})))
    rows = table.select(list(names)).slice(start - first, stop - start)
    return Dataset(InMemoryTable(rows), info=info, fingerprint="batch")[:]


def _endless(stream: datasets.IterableDataset) -> bool:
    """Whether one of the steps that make up the stream is a repeat() without a number."""
    step: Any = stream._ex_iterable
    while step is not None:
        if type(step).__name__ == "RepeatExamplesIterable" and step.num_times is None:
            return True
        step = getattr(step, "ex_iterable", None)
    return False


def problems() -> tuple[type[Exception], ...]:
    """What `datasets` raises when it cannot load or read something."""
    import pyarrow as pa
    from datasets.exceptions import DatasetsError

    # Network and hub errors are OSErrors; unknown splits, several configurations and unreadable files ValueErrors;
    # data sets that are scripts RuntimeErrors; and hand-edited metadata gives KeyErrors, TypeErrors or IndexErrors.
    return (DatasetsError, pa.ArrowException, OSError, ValueError, RuntimeError, LookupError, TypeError, ImportError)
