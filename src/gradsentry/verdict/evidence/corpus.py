"""The words of all rows as numbers, on disk and not in memory, so that n-grams can be counted repeatedly and in any order."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gradsentry.verdict.words import RowWords

CHUNK_WORDS = 1 << 16
"""Words from which n-grams are made at a time: bounds the memory of everything derived from them."""

MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""Hashes n-grams: an odd number without a pattern in its bits (2^64 divided by the golden ratio)."""

Hashes = NDArray[np.uint64]
Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Column:
    """One side, prompt or completion, of some rows, in N parts. A part is a row, or one answer of a prompt group."""

    starts: Ints
    """[N + 1] where the words of each part begin."""
    words: NDArray[np.uint32]
    """[n] number of each word, 0 for an edge."""
    surprise: NDArray[np.float16]
    """[n] nats."""
    row: Ints
    """[N] the row (or prompt group) of each part, ascending."""


@dataclass(frozen=True)
class Corpus:
    """The words of N rows."""

    prompt: Column
    completion: Column

    def __len__(self) -> int:
        return len(self.prompt.starts) - 1


@dataclass(frozen=True)
class NGrams:
    """The n-grams of one length in some consecutive rows, in order and with repetitions; m of them."""

    rows: Ints
    """[m] row of each."""
    hashes: Hashes
    """[m] equal for equal words."""
    surprise: Floats
    """[m] nats: the sum over its words."""

    def __getitem__(self, selection: NDArray[Any]) -> NGrams:
        """Some of them, by mask or by position."""
        return NGrams(self.rows[selection], self.hashes[selection], self.surprise[selection])


@lru_cache(maxsize=1 << 15)
def word_number(word: str) -> int:
    """The number of a word in `Column.words`; 0 for an edge only."""
    digest = hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=4).digest()
    return int.from_bytes(digest, "little") or 1 if word else 0


def build(rows: Iterable[RowWords | None]) -> Corpus:
    """Write the words of all rows to temporary files and open these as arrays; None is a row without words."""
    prompts, completions = ColumnWriter(), ColumnWriter()
    for words in rows:
        for writer, side in ((prompts, words and words.prompt), (completions, words and words.completion)):
            written = side.words if side else []
            writer.add(np.fromiter(map(word_number, written), np.uint32, len(written)), side.surprise if side else np.empty(0))
    return Corpus(prompts.column(), completions.column())


class ColumnWriter:
    """Writes the parts of a column to temporary files."""

    def __init__(self) -> None:
        self.words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (must stay open for the array made of it)
        self.surprise: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self.starts = [0]

    def add(self, words: NDArray[np.uint32], surprise: NDArray[Any]) -> None:
        """Write one part."""
        self.words.write(words.tobytes())
        self.surprise.write(surprise.astype(np.float16, copy=False).tobytes())
        self.starts.append(self.starts[-1] + len(words))

    def column(self, row: Ints | None = None) -> Column:
        """The files as arrays that stay on disk; each file is deleted with its array.

        Args:
            row: [N] the row of each part, ascending; by default each part is a row.
        """
        arrays: list[NDArray[Any]] = []
        for file, kind in ((self.words, np.uint32), (self.surprise, np.float16)):
            file.flush()  # an empty file cannot be mapped
            arrays.append(np.memmap(file, kind, mode="r") if file.tell() else np.empty(0, kind))
        return Column(np.array(self.starts), arrays[0], arrays[1], np.arange(len(self.starts) - 1) if row is None else row)


def chunks(column: Column) -> Iterator[tuple[int, int]]:
    """Ranges of parts, (first, one past the last), of about `CHUNK_WORDS` words each; a row is cut only if it is longer than that."""
    first, last = 0, len(column.row)
    while first < last:
        stop = int(np.searchsorted(column.starts, column.starts[first] + CHUNK_WORDS, side="right")) - 1
        stop = min(max(stop, first + 1), last)
        if stop < last and (begun := int(np.searchsorted(column.row, column.row[stop]))) > first:
            stop = begun
        yield first, stop
        first = stop


def ngrams(column: Column, first: int, stop: int, longest: int) -> Iterator[NGrams]:
    """All n-grams of the parts from `first` to `stop`, for n = 1 .. longest."""
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
        mixed = hashes ^ (hashes >> np.uint64(29))  # folds the high bits, which every word changes, into the low ones
        surprise = (total[n:] - total[:-n]).astype(np.float32)
        yield NGrams(row[: len(hashes)], mixed, surprise)[left[: len(hashes)] >= n]


def once_per_row(found: NGrams) -> NGrams:
    """Each n-gram once for each row that holds it, with its highest surprise there; ordered by row, then by hash."""
    ordered = found[np.lexsort((-found.surprise, found.hashes, found.rows))]
    first = np.ones(len(ordered.rows), dtype=bool)
    first[1:] = (ordered.rows[1:] != ordered.rows[:-1]) | (ordered.hashes[1:] != ordered.hashes[:-1])
    return ordered[first]


def is_among(sorted_keys: Hashes, hashes: Hashes) -> Mask:
    """[m] whether each hash is one of the keys."""
    if len(sorted_keys) == 0:
        return np.zeros(len(hashes), dtype=bool)
    place = np.searchsorted(sorted_keys, hashes)
    place[place == len(sorted_keys)] = 0
    return sorted_keys[place] == hashes
