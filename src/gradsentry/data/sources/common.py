"""What all sources share: cutting into shards, pairing rows with flags, opening and hashing files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import TypeVar

from gradsentry.errors import DataError
from gradsentry.types import Shard

Item = TypeVar("Item")


def cut(n_rows: int, shard_rows: int) -> list[Shard]:
    """Shards of `shard_rows` rows, the last one perhaps shorter."""
    starts = range(0, n_rows, shard_rows)
    return [Shard(index, start, min(start + shard_rows, n_rows)) for index, start in enumerate(starts)]


def paired(rows: Iterable[Item], flagged: Iterable[bool], name: str) -> Iterator[tuple[Item, bool]]:
    """Each row with its flag.

    Raises:
        DataError: There are more of one than of the other.
    """
    flags = iter(flagged)
    for row in rows:
        flag = next(flags, None)
        if flag is None:
            raise changed(name, "more")
        yield row, bool(flag)
    if next(flags, None) is not None:
        raise changed(name, "fewer")


def changed(name: str, how: str) -> DataError:
    """The error for a data set that has `how` (more, fewer) rows than it had."""
    return DataError(
        f"{name}: it has {how} rows than were scored, so it changed in between; score it again, or bring the scored version back"
    )


def open_binary(path: Path) -> BufferedReader:
    """The file, open for reading.

    Raises:
        DataError: It cannot be opened.
    """
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; check the path and your rights to it") from error


def sha256_of(path: Path) -> str:
    """SHA-256 of the file's bytes."""
    with open_binary(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
