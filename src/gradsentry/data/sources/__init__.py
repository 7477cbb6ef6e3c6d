"""Reading rows from where they are kept, and writing the kept and the flagged ones back in the same form."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

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


class Source(Protocol):
    """A data set that is read in shards and split into two of its kind."""

    @property
    def name(self) -> str:
        """What the user gave, for messages and the report."""
        ...

    @property
    def kind(self) -> str:
        """``jsonl``, ``json``, ``csv``, ``parquet``, ``dataset``, ``stream`` or ``rows``."""
        ...

    @property
    def suffix(self) -> str:
        """What a kept or flagged file ends with; ``dataset`` stands for a save_to_disk directory."""
        ...

    def plan(self, shard_rows: int) -> list[Shard]:
        """Cut the data set into runs of `shard_rows` rows; the cuts depend on the data alone."""
        ...

    def read(self, shard: Shard) -> Iterator[Record]:
        """The shard's rows, in order, readable or not."""
        ...

    def fingerprint(self) -> str:
        """A name for the content: the same data gives the same fingerprint."""
        ...

    def split(self, flagged: Iterable[bool], kept: Path, flagged_path: Path) -> tuple[int, int]:
        """Write each row to `kept` or `flagged_path` and return how many went to each.

        Raises:
            DataError: `flagged` has another number of values than the source has rows.
        """
        ...


def open_source(
    data: str | os.PathLike[str] | datasets.Dataset | datasets.DatasetDict | datasets.IterableDataset | Sequence[Mapping[str, Any]],
    *,
    split: str | None = None,
    streaming: bool = False,
) -> Source:
    """Open a data set: a file, a directory, a Hub id, a `datasets.Dataset` or `IterableDataset`, or rows in memory.

    Args:
        data: Path of a file or a directory, id of a data set on the Hub, or the data itself.
        split: Which split to take where there are several; `train` is taken if there is one.
        streaming: Read a Hub id or a plain directory as a stream; all else is read without a copy anyway.

    Raises:
        DataError: There is nothing readable there.
        UsageError: `split` does not fit the data, or it must be given and is not.
    """
    if isinstance(data, str | os.PathLike):
        return _open_path(data, split, streaming)
    if isinstance(data, Sequence) and not isinstance(data, bytes | bytearray):
        from gradsentry.data.sources.rows import RowsSource

        _refuse_split(split, "rows in memory have")
        return RowsSource(data)
    from gradsentry.data.sources.hub import from_object

    return from_object(data, split)


def _open_path(data: str | os.PathLike[str], split: str | None, streaming: bool) -> Source:
    """The source for a path or, where nothing has that path, for a Hub id."""
    if data == "":  # as a path it would be the working directory
        raise UsageError("no data given; give a path, or the id of a data set on the Hub")
    path = Path(data)
    if os.path.isdir(path):
        from gradsentry.data.sources.hub import from_directory

        return from_directory(path, split, streaming)
    if os.path.exists(path):
        _refuse_split(split, f"{path} is a single file and has")
        return _open_file(path)
    if isinstance(data, str) and path.suffix.lower() not in (*_OPENERS, *COMPRESSED):
        from gradsentry.data.sources.hub import from_hub, looks_like_id

        if looks_like_id(data):
            return from_hub(data, split, streaming)
    raise DataError(f"{path}: no such file or directory; check the path. {READABLE}")


def _open_file(path: Path) -> Source:
    suffix = path.suffix.lower()
    if not path.is_file():
        raise DataError(f"{path}: not a regular file; it is read more than once, so write it to disk first")
    if suffix in COMPRESSED:
        raise DataError(f"{path}: compressed files are not read; unpack it and give the unpacked file")
    if suffix not in _OPENERS:
        ending = f"files that end in {suffix!r} are" if suffix else "a file without a suffix is"
        raise DataError(f"{path}: {ending} not read. {READABLE}; rename or convert the file")
    return _OPENERS[suffix](path)


def _refuse_split(split: str | None, subject: str) -> None:
    if split is not None:
        raise UsageError(f"a split ({split!r}) was asked for, but {subject} no splits; leave the split out")


def _open_lines(path: Path) -> Source:
    from gradsentry.data.sources.json_lines import json_lines
    from gradsentry.data.sources.text import TextSource

    return TextSource(path, json_lines(path))


def _open_json(path: Path) -> Source:
    from gradsentry.data.sources.json_array import json_array, starts_array
    from gradsentry.data.sources.json_lines import is_one_object
    from gradsentry.data.sources.text import TextSource

    if starts_array(path):
        return TextSource(path, json_array(path))
    if is_one_object(path):
        raise DataError(f"{path}: it is one JSON object; write its rows as an array of objects or one object a line")
    return _open_lines(path)


def _open_csv(path: Path) -> Source:
    from gradsentry.data.sources.csv_table import csv_table
    from gradsentry.data.sources.text import TextSource

    return TextSource(path, csv_table(path))


def _open_parquet(path: Path) -> Source:
    from gradsentry.data.sources.table import ParquetSource

    return ParquetSource(path)


_OPENERS = {
    ".jsonl": _open_lines,
    ".ndjson": _open_lines,
    ".json": _open_json,
    ".csv": _open_csv,
    ".tsv": _open_csv,
    ".parquet": _open_parquet,
}
