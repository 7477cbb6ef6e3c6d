"""Sources: rows are read from where they are stored; kept, flagged and unexamined ones are written apart in the same form."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gradsentry.data.sources import csv_file, json_array, jsonl
from gradsentry.data.sources.memory import MemorySource
from gradsentry.data.sources.shards import Visitor
from gradsentry.data.sources.text_file import TextSource
from gradsentry.errors import DataError, UsageError
from gradsentry.types import Record, Shard

if TYPE_CHECKING:
    import datasets

__all__ = ["Source", "open_source"]

READABLE = (
    "gradsentry reads .jsonl, .ndjson, .json, .csv, .tsv and .parquet files, directories made with save_to_disk, "
    "directories that datasets.load_dataset reads, and ids of data sets on the Hugging Face Hub"
)
COMPRESSED = (".gz", ".zst", ".bz2", ".xz", ".zip")
LAYOUTS = dict.fromkeys((".jsonl", ".ndjson", ".json"), jsonl.json_lines) | dict.fromkeys((".csv", ".tsv"), csv_file.csv_table)
"""The layout of a text file by its suffix; where it is JSON lines, the file may also be an array."""


class Source(Protocol):
    """A data set that is read in shards and split into several data sets of its kind.

    A scan calls `plan`, `fingerprint`, `read` for each shard, and `split`. Sources travel to worker processes by pickle.
    """

    name: str
    """The path, id or kind of the data, for messages and the report."""
    kind: str
    """``jsonl``, ``json``, ``csv``, ``parquet``, ``dataset``, ``stream``, ``table`` or ``rows``."""
    suffix: str
    """Suffix of the files that a split writes; ``dataset`` is a directory of save_to_disk."""
    notes: tuple[str, ...]
    """What of the data is not read: other splits, configurations, files."""

    def plan(self, shard_rows: int) -> list[Shard]:
        """Cut the data set into shards of `shard_rows` rows. The same data always gives the same shards."""
        ...

    def read(self, shard: Shard) -> Iterator[Record]:
        """The shard's rows in order, readable or not.

        Raises:
            DataError: the data cannot be read, or changed since `plan`.
        """
        ...

    def fingerprint(self) -> str:
        """A text that identifies the content: the same data gives the same fingerprint."""
        ...

    def split(self, parts: Iterable[int], paths: Sequence[Path], visitor: Visitor | None = None) -> tuple[int, ...]:
        """Write each row to one of the paths and return the number of rows in each; the visitor receives the rows that it wants.

        Args:
            parts: for each row in order, the index of its path.

        Raises:
            DataError: the source has more or fewer rows than `parts` has values.
        """
        ...


def open_source(
    data: str | os.PathLike[str] | datasets.Dataset | datasets.DatasetDict | datasets.IterableDataset | Sequence[Mapping[str, Any]],
    *,
    split: str | None = None,
    name: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
) -> Source:
    """Open a data set: a file, a directory, a Hub id, a `datasets.Dataset` or `IterableDataset`, a table, or rows in memory.

    Args:
        data: path of a file or a directory, id of a data set on the Hub, or the data itself.
        split: the split of a data set that has several; by default all are read.
        name: the configuration of a data set that has several.
        revision: the branch, tag or commit of a data set on the Hub.
        streaming: read a Hub id or a plain directory as a stream. It has no effect on other data.

    Raises:
        DataError: the data cannot be found or read.
        UsageError: the data has no such split, configuration or revision, or must be given one.
    """
    if isinstance(data, str | os.PathLike):
        return _open_path(data, split, name, revision, streaming)
    _refuse_hub_options(name, revision, "the data is not")
    if isinstance(data, Sequence) and not isinstance(data, bytes | bytearray):
        _refuse_split(split, "rows in memory have")
        return MemorySource(data)
    from gradsentry.data.sources.arrow import TableSource, as_table

    if (table := as_table(data)) is not None:
        _refuse_split(split, "a table has")
        return TableSource(table)
    from gradsentry.data.sources.hub import from_object

    return from_object(data, split)


def _open_path(data: str | os.PathLike[str], split: str | None, name: str | None, revision: str | None, streaming: bool) -> Source:
    """The source for a path or, if nothing has that path, for a Hub id."""
    if data == "":  # as a path it would be the working directory
        raise UsageError("no data given; give a path, or the id of a data set on the Hub")
    path = Path(data)
    if os.path.isdir(path):
        from gradsentry.data.sources.hub import from_directory

        _refuse_hub_options(None, revision, f"{path} is a directory, not")
        return from_directory(path, split, name, streaming)
    if os.path.exists(path):
        _refuse_hub_options(name, revision, f"{path} is a file, not")
        _refuse_split(split, f"{path} is a single file and has")
        return _open_file(path)
    if isinstance(data, str) and path.suffix.lower() not in (*LAYOUTS, ".parquet", *COMPRESSED):
        from gradsentry.data.sources.hub import from_hub, looks_like_id

        if looks_like_id(data):
            return from_hub(data, split, name, revision, streaming)
    raise DataError(f"{path}: no such file or directory; check the path. {READABLE}")


def _open_file(path: Path) -> Source:
    suffix = path.suffix.lower()
    if not path.is_file():
        raise DataError(f"{path}: not a regular file; a scan reads its data more than once, so write it to disk first")
    if suffix in COMPRESSED:
        raise DataError(f"{path}: it is compressed; unpack it and give the unpacked file")
    if suffix == ".parquet":
        from gradsentry.data.sources.parquet import ParquetSource

        return ParquetSource(path)
    if suffix not in LAYOUTS:
        ending = f"files that end in {suffix!r} are" if suffix else "a file without a suffix is"
        raise DataError(f"{path}: {ending} not read. {READABLE}; rename or convert the file")
    if LAYOUTS[suffix] is jsonl.json_lines and json_array.starts_array(path):
        return TextSource(path, json_array.json_array)
    return TextSource(path, LAYOUTS[suffix])


def _refuse_split(split: str | None, subject: str) -> None:
    if split is not None:
        raise UsageError(f"a split ({split!r}) was given, but {subject} no splits; leave the split out")


def _refuse_hub_options(name: str | None, revision: str | None, subject: str) -> None:
    for option, value, what in (("name", name, "a directory or data set on the Hub"), ("revision", revision, "a data set on the Hub")):
        if value is not None:
            raise UsageError(f"a {option} ({value!r}) was given, but {subject} {what}; leave the {option} out")
