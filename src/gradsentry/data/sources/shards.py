"""Rows in shards, and rows with the part of a split to which they go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from gradsentry.errors import DataError
from gradsentry.types import Record, Shard

Item = TypeVar("Item")


class Visitor(Protocol):
    """Receives some rows while `Source.split` reads all of them."""

    wanted: frozenset[int]
    """Numbers of the rows that it receives."""

    def add(self, record: Record) -> None:
        """Called for each wanted row, in order."""


def visit_by_row(read: Callable[[Shard], Iterator[Record]], visitor: Visitor | None) -> None:
    """Hand the wanted rows to the visitor, for a source that reads any row without a pass over the data."""
    if visitor is not None:
        for row in sorted(visitor.wanted):
            visitor.add(next(read(Shard(0, row, row + 1))))


def cut_into_shards(n_rows: int, shard_rows: int) -> list[Shard]:
    """Shards of `shard_rows` rows; the last one may be shorter."""
    starts = range(0, n_rows, shard_rows)
    return [Shard(index, start, min(start + shard_rows, n_rows)) for index, start in enumerate(starts)]


def with_parts(rows: Iterable[Item], parts: Iterable[int], name: str) -> Iterator[tuple[Item, int]]:
    """Each row with its part.

    Raises:
        DataError: the data set has more or fewer rows than there are parts.
    """
    of_rows = iter(parts)
    for row in rows:
        part = next(of_rows, None)
        if part is None:
            raise row_count_changed(name, "more")
        yield row, int(part)
    if next(of_rows, None) is not None:
        raise row_count_changed(name, "fewer")


def row_count_changed(name: str, how: str) -> DataError:
    """The error for a data set that has `how` (more, fewer) rows than were scored."""
    return DataError(
        f"{name}: it has {how} rows than were scored, so it changed in between; score it again, or bring the scored version back"
    )
