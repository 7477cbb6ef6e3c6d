"""Rows in shards, and rows with their flags."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from gradsentry.errors import DataError
from gradsentry.types import Shard

Item = TypeVar("Item")


def cut_into_shards(n_rows: int, shard_rows: int) -> list[Shard]:
    """Shards of `shard_rows` rows; the last one may be shorter."""
    starts = range(0, n_rows, shard_rows)
    return [Shard(index, start, min(start + shard_rows, n_rows)) for index, start in enumerate(starts)]


def with_flags(rows: Iterable[Item], flagged: Iterable[bool], name: str) -> Iterator[tuple[Item, bool]]:
    """Each row with its flag.

    Raises:
        DataError: the data set has more or fewer rows than there are flags.
    """
    flags = iter(flagged)
    for row in rows:
        flag = next(flags, None)
        if flag is None:
            raise row_count_changed(name, "more")
        yield row, bool(flag)
    if next(flags, None) is not None:
        raise row_count_changed(name, "fewer")


def row_count_changed(name: str, how: str) -> DataError:
    """The error for a data set that has `how` (more, fewer) rows than were scored."""
    return DataError(
        f"{name}: it has {how} rows than were scored, so it changed in between; score it again, or bring the scored version back"
    )
