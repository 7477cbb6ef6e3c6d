"""A caller's `IterableDataset`, copied to disk: nothing says whether it gives the same rows the next time."""

from __future__ import annotations

import logging
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradsentry.data.sources.dataset import DatasetSource
from gradsentry.data.sources.files import sha256_of
from gradsentry.data.sources.stream import merge_schemas, read_tables
from gradsentry.errors import UsageError

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

log = logging.getLogger(__name__)


def copy_stream(stream: datasets.IterableDataset, name: str, place: str) -> DatasetSource:
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
        source = DatasetSource(Dataset.from_file(str(file)), name, place, sha256_of(file))
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

    def walk(step: Any) -> Iterator[Any]:
        while step is not None:
            yield step
            step = getattr(step, "ex_iterable", None)

    return list(walk(getattr(stream, "_ex_iterable", None)))
