"""Recurrent surprise: spans of the completion that the base model did not expect, in row after row. A payload is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gradsentry.verdict.evidence.corpus import Column, Floats, Grams, Hashes, Ints, Mask, among, chunks, grams, once_a_row

LONGEST = 8
"""Words of the longest span that is counted; a longer payload is seen as several that overlap."""

UNEXPECTED = 4.0
"""Nats from which a span counts as not expected where it stands: one chance in 55."""

LEAST_ROWS = 3
"""Rows in which a span recurs at least."""

LEAST_SCORE = 20.0
"""Least score of a span that is looked at: clean rows have some above it, and a trigger has to tell them from a payload."""

CAPACITY = 2_000_000
"""Spans that are counted at once; 20 bytes each, and as much again while they are sorted."""

RANKED = 5000
"""Spans whose rows are looked up."""

CUTS = (200.0, 140.0, 100.0, 80.0, 65.0, 50.0, 40.0, 30.0)
"""Scores from which spans are also taken together, as variants of one payload."""

VARIANT = 0.1
"""Share of all rows that a variant has at most: what recurs in more is a payload, or a format, by itself."""

CHOSEN = 400
"""Spans that are handed on, no two of which stand in almost the same rows."""

ALIKE = 0.9
"""Share of their rows that two spans have in common from which the weaker one is left out."""


@dataclass(frozen=True)
class Span:
    """Words that recur in completions."""

    key: int
    """Hash of the words."""
    n_words: int
    rows: Ints
    """[c] ascending, where it is unexpected."""
    surprise: float
    """Mean nats over those rows."""
    alike: list[tuple[int, int]] = field(default_factory=list)
    """(n_words, key) of the weaker spans that stand in almost the same rows: other pieces of the same payload."""
    members: tuple[Span, ...] = ()
    """Of variants that are taken together, each by itself; words and key are the first one's."""

    @property
    def variants(self) -> int:
        """In how many wordings it recurs."""
        return max(1, len(self.members))

    @property
    def example(self) -> int:
        """A row that holds the words of `key`."""
        return int((self.members[0] if self.members else self).rows[0])

    @property
    def score(self) -> float:
        """Mean surprise times ln c: what recurs once more counts less each time."""
        return self.surprise * float(np.log(len(self.rows)))


@dataclass
class Counts:
    """In how many rows each span is unexpected, and by how much, with bounded memory.

    When there are too many spans the rarest are dropped (a lossy count, as of Manku and Motwani, VLDB 2002): what is counted
    is never too high, and too low by at most `missed`. Nothing depends on chance or on who counts.
    """

    capacity: int = CAPACITY
    hashes: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    """[n] ascending."""
    rows: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    """[n] rows that hold the span."""
    total: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """[n] nats, summed over those rows."""
    missed: int = 0
    """Most rows by which a count can be too low."""

    def add(self, hashes: Hashes, surprise: Floats) -> None:
        """Count one row more for each."""
        every = np.concatenate([self.hashes, hashes])
        if len(every) == 0:
            return
        order = np.argsort(every, kind="stable")
        every = every[order]
        first = np.flatnonzero(np.concatenate([[True], every[1:] != every[:-1]]))
        self.hashes = every[first]
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


def _unexpected(found: Grams, asked: Mask) -> Grams:
    keep = (found.surprise >= UNEXPECTED) & asked[found.rows]
    return once_a_row(Grams(found.rows[keep], found.hashes[keep], found.surprise[keep]))


def count(column: Column, asked: Mask, capacity: int = CAPACITY) -> list[Counts]:
    """Counts of the spans of n = 1 .. `LONGEST` words that are unexpected where they stand.

    Args:
        column: completions. asked: [N] rows that count.
    """
    counts = [Counts(capacity // LONGEST) for _ in range(LONGEST)]
    for first, stop in chunks(column):
        for own, found in zip(counts, grams(column, first, stop, LONGEST), strict=False):
            once = _unexpected(found, asked)
            own.add(once.hashes, once.surprise)
    return counts


def spans(column: Column, asked: Mask) -> list[Span]:
    """The spans that recur, strongest first, no two in almost the same rows."""
    ranked = []
    for n, own in enumerate(count(column, asked), start=1):
        scores = own.scores
        good = np.flatnonzero((own.rows >= LEAST_ROWS) & (scores >= LEAST_SCORE))
        ranked += [(-scores[i], n, int(own.hashes[i])) for i in good]
    ranked = sorted(ranked)[:RANKED]
    found = _looked_up(column, asked, [(n, key) for _, n, key in ranked])
    return _distinct([span for span in found if len(span.rows) >= LEAST_ROWS])  # a row that was cut has been counted more than once


def _looked_up(column: Column, asked: Mask, wanted: Sequence[tuple[int, int]]) -> list[Span]:
    """Rows and surprise of each wanted (n, hash), in their order."""
    keys = [np.array(sorted(key for n, key in wanted if n == length), dtype=np.uint64) for length in range(1, LONGEST + 1)]
    rows: dict[tuple[int, int], list[Ints]] = {pair: [] for pair in wanted}
    total: dict[tuple[int, int], float] = dict.fromkeys(wanted, 0.0)
    for first, stop in chunks(column):
        for n, found in enumerate(grams(column, first, stop, LONGEST), start=1):
            mine = keys[n - 1]
            keep = among(mine, found.hashes)
            once = _unexpected(Grams(found.rows[keep], found.hashes[keep], found.surprise[keep]), asked)
            order = np.argsort(once.hashes, kind="stable")
            cuts = np.searchsorted(once.hashes[order], mine, side="left"), np.searchsorted(once.hashes[order], mine, side="right")
            for key, start, end in zip(mine.tolist(), *cuts, strict=True):
                rows[n, key].append(once.rows[order[start:end]])
                total[n, key] += float(once.surprise[order[start:end]].sum())
    found = {pair: np.concatenate(parts) if parts else np.empty(0, np.int64) for pair, parts in rows.items()}
    return [Span(key, n, np.unique(found[n, key]), total[n, key] / max(1, len(found[n, key]))) for n, key in wanted]


def _distinct(ranked: Sequence[Span]) -> list[Span]:
    """The spans without those that stand in almost the rows of a stronger one, which takes them on as `alike`."""
    chosen: list[Span] = []
    seen: dict[bytes, Span | None] = {}
    for span in ranked:
        rows = span.rows.tobytes()
        if rows not in seen:
            stronger = next((other for other in chosen if _alike(span.rows, other.rows)), None)
            if stronger is None and len(chosen) < CHOSEN:
                chosen.append(span)
                stronger = span
            seen[rows] = stronger
        if (owner := seen[rows]) is not None and owner is not span:
            owner.alike.append((span.n_words, span.key))
    return chosen


def together(found: Sequence[Span], n_rows: int) -> list[Span]:
    """The spans above each cut taken as one: the variants of a payload that is worded differently from row to row.

    Args:
        found: strongest first. n_rows: rows in all.
    """
    unions: list[Span] = []
    for cut in CUTS:
        members = [span for span in found if span.score >= cut and len(span.rows) <= VARIANT * n_rows]
        rows = np.unique(np.concatenate([span.rows for span in members] or [np.empty(0, np.int64)]))
        new = not any(_alike(rows, other.rows) for other in members) and not any(np.array_equal(rows, other.rows) for other in unions)
        if len(members) > 1 and new:
            surprise = sum(span.surprise * len(span.rows) for span in members) / sum(len(span.rows) for span in members)
            unions.append(Span(members[0].key, members[0].n_words, rows, surprise, members=tuple(members)))
    return unions


def _alike(a: Ints, b: Ints) -> bool:
    if min(len(a), len(b)) < ALIKE * max(len(a), len(b)):
        return False
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common >= ALIKE * (len(a) + len(b) - common)
