"""Recurrent surprise: spans of the completion that the base model did not expect, in row after row (design: a payload)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gradsentry.evidence.corpus import Column, Floats, Grams, Hashes, Ints, chunks, grams

LONGEST = 8
"""Words of the longest span that is counted; a longer payload is seen as several that overlap."""

UNEXPECTED = 4.0
"""Nats from which a span counts as not expected in a row: one chance in 55."""

CAPACITY = 4_000_000
"""Spans that are counted at once; 24 bytes each."""


@dataclass
class Counts:
    """In how many rows each span is unexpected, and by how much, with bounded memory.

    When there are too many spans the rarest are dropped (a lossy count as in Manku and Motwani 2002): what is counted is
    never too high, and too low by at most `missed`. Nothing depends on chance or on who counts.
    """

    capacity: int = CAPACITY
    hashes: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    """[n] sorted."""
    rows: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    """[n] rows that hold the span."""
    total: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """[n] nats, summed over those rows."""
    missed: int = 0
    """Most rows by which a count can be too low."""

    def add(self, hashes: Hashes, surprise: Floats) -> None:
        """Count one occurrence of each."""
        every = np.concatenate([self.hashes, hashes])
        order = np.argsort(every, kind="stable")
        every = every[order]
        first = np.flatnonzero(np.concatenate([[True], every[1:] != every[:-1]])) if len(every) else np.empty(0, np.int64)
        rows = np.concatenate([self.rows, np.ones(len(hashes), np.int64)])[order]
        total = np.concatenate([self.total, surprise.astype(np.float64)])[order]
        self.hashes = every[first]
        self.rows = np.add.reduceat(rows, first) if len(first) else rows
        self.total = np.add.reduceat(total, first) if len(first) else total
        while len(self.hashes) > self.capacity:
            least = int(self.rows.min())
            self.missed += least
            keep = self.rows > least
            self.hashes, self.rows, self.total = self.hashes[keep], self.rows[keep], self.total[keep]


def once_a_row(found: Grams) -> Grams:
    """Each n-gram once for each row that holds it, with its highest surprise there; by row, then by hash."""
    order = np.lexsort((-found.surprise, found.hashes, found.rows))
    rows, hashes = found.rows[order], found.hashes[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = (rows[1:] != rows[:-1]) | (hashes[1:] != hashes[:-1])
    return Grams(rows[first], hashes[first], found.surprise[order][first])


def count(column: Column, longest: int = LONGEST, unexpected: float = UNEXPECTED, capacity: int = CAPACITY) -> list[Counts]:
    """Counts of all n-grams that are unexpected where they stand, for n = 1 .. longest."""
    counts = [Counts(capacity // longest) for _ in range(longest)]
    for first, stop in chunks(column):
        for own, found in zip(counts, grams(column, first, stop, longest), strict=False):
            high = found.surprise >= unexpected
            once = once_a_row(Grams(found.rows[high], found.hashes[high], found.surprise[high]))
            own.add(once.hashes, once.surprise)
    return counts
