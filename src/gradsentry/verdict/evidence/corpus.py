"""All rows' words as numbers, on disk and not in memory, so that they can be counted again and again in any order."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gradsentry.types import Surprises, Vocabulary
from gradsentry.verdict.evidence.words import RowWords, Side, split

CHUNK = 1 << 16
"""Words that are counted at a time: bounds the memory of everything that is made of them."""

MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""An odd number with no pattern in its bits (2^64 divided by the golden ratio), by which n-grams are hashed."""

Hashes = NDArray[np.uint64]
Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Column:
    """One side, prompt or completion, of some rows, in N parts: a row each, but where several answers are taken as one."""

    starts: Ints
    """[N + 1] where each part's words begin."""
    words: NDArray[np.uint32]
    """[n] a number for each word, 0 for an edge."""
    surprise: NDArray[np.float16]
    """[n] nats."""
    row: Ints
    """[N] which row each part is of, ascending."""


@dataclass(frozen=True)
class Corpus:
    """N rows in words."""

    prompt: Column
    completion: Column

    def __len__(self) -> int:
        return len(self.prompt.starts) - 1


@dataclass(frozen=True)
class Grams:
    """The n-grams of one length in a run of rows, one after the other, repeated ones too."""

    rows: Ints
    """[m] row of each."""
    hashes: Hashes
    """[m] equal for equal words."""
    surprise: Floats
    """[m] nats: the sum over its words."""


@lru_cache(maxsize=1 << 15)
def number(word: str) -> int:
    """The number of a word; 0 is the edge's."""
    digest = hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=4).digest()
    return int.from_bytes(digest, "little") or 1 if word else 0


def scored_rows(tables: Iterable[pa.Table], vocabulary: Vocabulary) -> Iterator[tuple[int, RowWords | None]]:
    """Row after row in words; None for one that has no surprises.

    Args:
        tables: columns of `columns.SURPRISES`, part by part.
    """
    for table in tables:
        rows = table["row"].to_pylist()
        tokens, surprise, supervised, own = (_lists(table[name]) for name in ("tokens", "nll", "supervised", "spelled_specials"))
        known = table["tokens"].is_valid().to_pylist()
        for i, row in enumerate(rows):
            yield row, split(Surprises(tokens[i], surprise[i], supervised[i], own[i]), vocabulary) if known[i] else None


def _lists(column: pa.ChunkedArray) -> list[NDArray[Any]]:
    """The arrays of a column of lists; an empty one for null."""
    whole = column.combine_chunks()
    values, offsets = whole.values.to_numpy(zero_copy_only=False), whole.offsets.to_numpy()
    return [values[start:stop] for start, stop in pairwise(offsets)]


def build(rows: Iterable[tuple[int, RowWords | None]]) -> Corpus:
    """Write all rows' words as numbers to temporary files and open those as arrays."""
    sides = (_Writer(), _Writer())
    for _, words in rows:
        for writer, side in zip(sides, (words.prompt, words.completion) if words else (None, None), strict=True):
            writer.add(side)
    prompt, completion = (writer.column() for writer in sides)
    return Corpus(prompt, completion)


class _Writer:
    """One side of the rows on its way to disk."""

    def __init__(self) -> None:
        self.words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the array that is made of it)
        self.surprise: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self.lengths: list[int] = []

    def add(self, side: Side | None) -> None:
        self.lengths.append(len(side.words) if side else 0)
        if side:
            self.words.write(np.fromiter(map(number, side.words), np.uint32, len(side.words)).tobytes())
            self.surprise.write(side.surprise.astype(np.float16).tobytes())

    def column(self) -> Column:
        starts = np.concatenate([[0], np.cumsum(np.array(self.lengths, dtype=np.int64))])
        words, surprise = mapped(self.words, np.uint32), mapped(self.surprise, np.float16)
        return Column(starts, words, surprise, np.arange(len(self.lengths)))


def mapped(file: IO[bytes], kind: Any) -> NDArray[Any]:
    """What was written to a file, as an array that stays on disk; the file goes with it."""
    file.flush()
    if file.tell() == 0:
        return np.empty(0, dtype=kind)
    return np.memmap(file, dtype=kind, mode="r")


def chunks(column: Column) -> Iterator[tuple[int, int]]:
    """Runs of parts, (first, one past the last), of about `CHUNK` words each; only a row longer than that is cut."""
    first, last = 0, len(column.row)
    while first < last:
        stop = int(np.searchsorted(column.starts, column.starts[first] + CHUNK, side="right")) - 1
        stop = min(max(stop, first + 1), last)
        if stop < last and (begun := int(np.searchsorted(column.row, column.row[stop]))) > first:
            stop = begun
        yield first, stop
        first = stop


def grams(column: Column, first: int, stop: int, longest: int) -> Iterator[Grams]:
    """For n = 1 .. longest, all n-grams of the parts from `first` to `stop`."""
    begin, end = int(column.starts[first]), int(column.starts[stop])
    words = np.asarray(column.words[begin:end], dtype=np.uint64) + np.uint64(1)
    total = np.concatenate([[0], np.cumsum(column.surprise[begin:end], dtype=np.float64)])
    lengths = np.diff(column.starts[first : stop + 1])
    row = np.repeat(column.row[first:stop], lengths)
    left = np.repeat(column.starts[first + 1 : stop + 1] - begin, lengths) - np.arange(end - begin)  # words to the part's end
    hashes = np.zeros(len(words), dtype=np.uint64)
    for n in range(1, longest + 1):
        if len(words) < n:
            return
        hashes = hashes[: len(words) - n + 1] * MULTIPLIER + words[n - 1 :]
        inside = left[: len(hashes)] >= n
        surprise = (total[n:] - total[:-n]).astype(np.float32)
        yield Grams(row[: len(hashes)][inside], _mixed(hashes[inside]), surprise[inside])


def _mixed(hashes: Hashes) -> Hashes:
    """The hashes with their high bits, which every word moves, folded into the low ones."""
    return hashes ^ (hashes >> np.uint64(29))


def once_a_row(found: Grams) -> Grams:
    """Each n-gram once for each row that holds it, with its highest surprise there; by row, then by hash."""
    order = np.lexsort((-found.surprise, found.hashes, found.rows))
    rows, hashes = found.rows[order], found.hashes[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = (rows[1:] != rows[:-1]) | (hashes[1:] != hashes[:-1])
    return Grams(rows[first], hashes[first], found.surprise[order][first])


def among(sorted_keys: Hashes, hashes: Hashes) -> Mask:
    """[m] whether each hash is one of the keys."""
    if len(sorted_keys) == 0:
        return np.zeros(len(hashes), dtype=bool)
    place = np.searchsorted(sorted_keys, hashes)
    place[place == len(sorted_keys)] = 0
    return sorted_keys[place] == hashes
