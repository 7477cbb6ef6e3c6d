"""Recurrent surprise: spans of completions that the base model did not expect, in row after row. A payload is such a span."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gradsentry.verdict.evidence.corpus import Column, Floats, Hashes, Ints, Mask, NGrams, chunks, is_among, ngrams, once_per_row

LONGEST = 8
"""Words of the longest span that is counted; a longer payload appears as several overlapping spans."""

UNEXPECTED = 4.0
"""Least nats of an unexpected span: a chance of one in 55."""

LEAST_ROWS = 3
"""Least number of rows in which a span recurs."""

LEAST_SCORE = 20.0
"""Least score of a span. Spans of clean rows can exceed it: the trigger test tells them from payloads."""

CAPACITY = 2_000_000
"""Spans that are counted at once, at 20 bytes each, and twice that while they are sorted."""

LOCATED_SPANS = 5000
"""Spans, the strongest ones, whose rows are looked up."""

CUTS = (200.0, 140.0, 100.0, 80.0, 65.0, 50.0, 40.0, 30.0)
"""At each of these scores, the spans above it are also taken together, as variants of one payload."""

VARIANT_SHARE = 0.1
"""Largest share of all rows that hold a variant: a span in more rows is a payload, or a format, by itself."""

DISTINCT_SPANS = 400
"""Spans that are returned, no two of which occur in nearly the same rows."""

NEARLY_SAME = 0.9
"""Jaccard index of two spans' rows from which the weaker one is dropped."""


@dataclass(frozen=True)
class Span:
    """Words that recur in completions."""

    key: int
    """Hash of the words."""
    n_words: int
    rows: Ints
    """[c] rows in which it is unexpected, ascending."""
    surprise: float
    """Mean nats over those rows."""
    pieces: list[tuple[int, int]] = field(default_factory=list)
    """(n_words, key) of the weaker spans in nearly the same rows: other pieces of the same payload."""
    members: tuple[Span, ...] = ()
    """The variants that this span unites; `key` and `n_words` are those of the first. Empty for a span that recurs word for word."""

    @property
    def variants(self) -> int:
        """Number of wordings in which it recurs."""
        return max(1, len(self.members))

    @property
    def example(self) -> int:
        """A row that holds the words of `key`."""
        return int((self.members[0] if self.members else self).rows[0])

    @property
    def score(self) -> float:
        """Mean surprise times ln c: every further row adds less than the one before."""
        return self.surprise * float(np.log(len(self.rows)))


@dataclass
class Counts:
    """The number of rows in which each span is unexpected, and its total surprise, in bounded memory.

    The rarest spans are dropped when there are too many (lossy counting: Manku and Motwani, VLDB 2002). A count is never too high, and
    too low by at most `missed`. The result is deterministic.
    """

    capacity: int = CAPACITY
    hashes: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    """[n] ascending."""
    rows: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    """[n] number of rows that hold the span."""
    total: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """[n] nats, summed over those rows."""
    missed: int = 0
    """Largest number of rows by which a count can be too low."""

    def add(self, hashes: Hashes, surprise: Floats) -> None:
        """Add one row to the count of each hash."""
        merged = np.concatenate([self.hashes, hashes])
        if len(merged) == 0:
            return
        order = np.argsort(merged, kind="stable")
        merged = merged[order]
        first = np.flatnonzero(np.concatenate([[True], merged[1:] != merged[:-1]]))
        self.hashes = merged[first]
        self.rows = np.add.reduceat(np.concatenate([self.rows, np.ones(len(hashes), np.int32)])[order], first, dtype=np.int32)
        self.total = np.add.reduceat(np.concatenate([self.total, surprise.astype(np.float64)])[order], first)
        while len(self.hashes) > self.capacity:
            least = int(self.rows.min())
            self.missed += least
            keep = self.rows > least
            self.hashes, self.rows, self.total = self.hashes[keep], self.rows[keep], self.total[keep]

    @property
    def scores(self) -> NDArray[np.float64]:
        """[n] score of each span, as `Span.score`."""
        return self.total / self.rows * np.log(self.rows)


def _unexpected(found: NGrams, active: Mask) -> NGrams:
    return once_per_row(found[(found.surprise >= UNEXPECTED) & active[found.rows]])


def count_spans(column: Column, active: Mask, capacity: int = CAPACITY) -> list[Counts]:
    """Count the unexpected spans of n = 1 .. `LONGEST` words.

    Args:
        column: completions. active: [N] rows to count.
    """
    counts = [Counts(capacity // LONGEST) for _ in range(LONGEST)]
    for first, stop in chunks(column):
        for own, found in zip(counts, ngrams(column, first, stop, LONGEST), strict=False):
            once = _unexpected(found, active)
            own.add(once.hashes, once.surprise)
    return counts


def recurrent_spans(column: Column, active: Mask) -> list[Span]:
    """The spans that recur, strongest first, no two of them in nearly the same rows; arguments as for `count_spans`."""
    ranked = []
    for n, own in enumerate(count_spans(column, active), start=1):
        scores = own.scores
        good = np.flatnonzero((own.rows >= LEAST_ROWS) & (scores >= LEAST_SCORE))
        ranked += [(-scores[i], n, int(own.hashes[i])) for i in good]
    located = _located(column, active, [(n, key) for _, n, key in sorted(ranked)[:LOCATED_SPANS]])
    return _distinct([span for span in located if len(span.rows) >= LEAST_ROWS])  # chunks count a row that they cut more than once


def _located(column: Column, active: Mask, wanted: Sequence[tuple[int, int]]) -> list[Span]:
    """The span of each wanted (n, hash), in their order, with its rows and surprise."""
    keys = [np.array(sorted(key for n, key in wanted if n == length), dtype=np.uint64) for length in range(1, LONGEST + 1)]
    rows: dict[tuple[int, int], list[Ints]] = {pair: [] for pair in wanted}
    total: dict[tuple[int, int], float] = dict.fromkeys(wanted, 0.0)
    for first, stop in chunks(column):
        for n, found in enumerate(ngrams(column, first, stop, LONGEST), start=1):
            own = keys[n - 1]
            once = _unexpected(found[is_among(own, found.hashes)], active)
            by_hash = once[np.argsort(once.hashes, kind="stable")]
            starts, ends = (np.searchsorted(by_hash.hashes, own, side=side) for side in ("left", "right"))
            for key, start, end in zip(own.tolist(), starts, ends, strict=True):
                rows[n, key].append(by_hash.rows[start:end])
                total[n, key] += float(by_hash.surprise[start:end].sum())
    found = {pair: np.concatenate(parts) if parts else np.empty(0, np.int64) for pair, parts in rows.items()}
    return [Span(key, n, np.unique(found[n, key]), total[n, key] / max(1, len(found[n, key]))) for n, key in wanted]


def _distinct(ranked: Sequence[Span]) -> list[Span]:
    """Drop spans that occur in nearly the rows of a stronger one, which keeps them as its `pieces`."""
    chosen: list[Span] = []
    seen: dict[bytes, Span | None] = {}
    for span in ranked:
        rows = span.rows.tobytes()
        if rows not in seen:
            stronger = next((other for other in chosen if _nearly_same(span.rows, other.rows)), None)
            if stronger is None and len(chosen) < DISTINCT_SPANS:
                chosen.append(span)
                stronger = span
            seen[rows] = stronger
        if (owner := seen[rows]) is not None and owner is not span:
            owner.pieces.append((span.n_words, span.key))
    return chosen


def unions_of_variants(spans: Sequence[Span], n_rows: int) -> list[Span]:
    """The spans above each of the `CUTS` as one span: the variants of a payload whose wording differs from row to row.

    Args:
        spans: strongest first. n_rows: rows in all.
    """
    unions: list[Span] = []
    for cut in CUTS:
        members = [span for span in spans if span.score >= cut and len(span.rows) <= VARIANT_SHARE * n_rows]
        rows = np.unique(np.concatenate([span.rows for span in members] or [np.empty(0, np.int64)]))
        new = not any(_nearly_same(rows, other.rows) for other in members) and not any(np.array_equal(rows, one.rows) for one in unions)
        if len(members) > 1 and new:
            surprise = sum(span.surprise * len(span.rows) for span in members) / sum(len(span.rows) for span in members)
            unions.append(Span(members[0].key, members[0].n_words, rows, surprise, members=tuple(members)))
    return unions


def _nearly_same(a: Ints, b: Ints) -> bool:
    if min(len(a), len(b)) < NEARLY_SAME * max(len(a), len(b)):
        return False
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common >= NEARLY_SAME * (len(a) + len(b) - common)
