"""The words of a run's rows, read from its parts: what detectors search (`verdict.words.WordSource`)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from gradsentry.run.directory import RunDirectory
from gradsentry.schema import SURPRISES
from gradsentry.types import Shard, Surprises, Vocabulary
from gradsentry.verdict.words import RowWords, split_words


class RunWords:
    """The words of a run whose rows are all scored.

    Raises:
        RunError: the vocabulary is missing or damaged, or, while rows are read, a part is damaged.
    """

    def __init__(self, run: RunDirectory, shards: Sequence[Shard], side: str = "") -> None:
        """`side`: read this side of each row alone, see `Surprises.side`."""
        self._run, self._shards, self._side = run, shards, side
        self._vocabulary = run.vocabulary()

    def __iter__(self) -> Iterator[RowWords | None]:
        for part in self._run.surprises(self._shards):
            yield from words_of(part, self._vocabulary, self._side)


def words_of_rows(run: RunDirectory, shards: Sequence[Shard], rows: Collection[int]) -> dict[int, RowWords]:
    """The words of some rows, as far as they were scored, from the parts that hold them.

    Raises:
        RunError: the vocabulary is missing or damaged, or a part is.
    """
    vocabulary = run.vocabulary()
    chosen = np.array(sorted(rows), np.int64)
    found: dict[int, RowWords] = {}
    for shard in shards:
        own = chosen[np.searchsorted(chosen, shard.start) : np.searchsorted(chosen, shard.stop)]
        if len(own):
            (part,) = run.surprises([shard])
            known = zip(own.tolist(), words_of(part.take(own - shard.start), vocabulary), strict=True)
            found |= {row: words for row, words in known if words is not None}
    return found


def words_of(part: pa.Table, vocabulary: Vocabulary, side: str = "") -> Iterator[RowWords | None]:
    """The words of each row, or of one side of it, of a table with the columns of `schema.SURPRISES`; None where these are null."""
    columns = [_lists(part[name]) for name in SURPRISES.names]
    for known, *values in zip(part[SURPRISES.names[0]].is_valid().to_pylist(), *columns, strict=True):
        found = Surprises(*values).side(side) if known else None
        yield split_words(found, vocabulary) if found else None


def _lists(column: pa.ChunkedArray) -> Sequence[Any]:
    """The arrays of a column of lists, or its lists of structs; an empty one for null."""
    if pa.types.is_struct(column.type.value_type):
        return [value or () for value in column.to_pylist()]
    whole = column.combine_chunks()
    values, offsets = whole.values.to_numpy(zero_copy_only=False), whole.offsets.to_numpy()
    return [values[start:stop] for start, stop in pairwise(offsets)]
