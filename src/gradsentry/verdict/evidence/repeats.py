"""Rows that repeat a prompt word for word count once.

Copies of a row, or several answers to one question, say the same again: a span that recurs in them, and the words of their prompt
that go with it, are no coincidence. What is counted is therefore distinct prompts, each with all its answers; what is found is
told, and flagged, in rows.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gradsentry.verdict.evidence.corpus import Column, Corpus, Hashes, Ints, Mask, among, chunks, grams, mapped
from gradsentry.verdict.evidence.recurrent import UNEXPECTED, Span


@dataclass(frozen=True)
class Units:
    """N rows as U units, one for each prompt."""

    every: Corpus
    """The rows."""
    corpus: Corpus
    """[U] The units: a prompt, and its answers in as many parts. Where no prompt recurs these are the rows themselves."""
    asked: Mask
    """[U] Units that have been scored."""
    members: Ints
    """[N] rows, unit after unit."""
    starts: Ints
    """[U + 1] where each unit's begin."""

    @property
    def repeated(self) -> bool:
        """Whether some prompt recurs."""
        return self.corpus is not self.every

    @cached_property
    def sizes(self) -> Ints:
        """[U] rows of each unit."""
        return np.diff(self.starts)

    def first(self, units: Ints) -> Ints:
        """A row of each unit; its prompt is that of all of them."""
        return self.members[self.starts[units]]

    def rows(self, units: Ints) -> Ints:
        """All rows of some units, in the units' order."""
        if not self.repeated:
            return units
        return np.concatenate([self.members[self.starts[unit] : self.starts[unit + 1]] for unit in units] or [self.members[:0]])

    def holding(self, units: Ints, spans: Sequence[Span]) -> Ints:
        """The rows of some units whose answers hold one of the spans, ascending."""
        return np.sort(self._holding(units, spans)) if self.repeated else units

    def one_each(self, units: Ints, spans: Sequence[Span]) -> Ints:
        """Of each unit one row whose answer holds one of the spans, in the units' order."""
        if not self.repeated:
            return units
        rows = self._holding(units, spans)
        _, place = np.unique(self.of[rows], return_index=True)
        return rows[np.sort(place)]

    @cached_property
    def of(self) -> Ints:
        """[N] the unit of each row; -1 for one that was not scored."""
        found = np.full(len(self.every), -1)
        found[self.members] = np.repeat(np.arange(len(self.sizes)), self.sizes)
        return found

    def _holding(self, units: Ints, spans: Sequence[Span]) -> Ints:
        keys = _keys(spans)
        rows = self.rows(units)
        held = np.zeros(len(rows), dtype=bool)
        column = gathered(self.every.completion, rows, np.arange(len(rows)))
        for first, stop in chunks(column):
            for n, found in enumerate(grams(column, first, stop, max(keys, default=0)), start=1):
                if n in keys:
                    held[found.rows[among(keys[n], found.hashes) & (found.surprise >= UNEXPECTED)]] = True
        return rows[held]


def _keys(spans: Sequence[Span]) -> dict[int, Hashes]:
    """Keys of spans, ascending, by their number of words."""
    pairs = {(one.n_words, one.key) for span in spans for one in (span, *span.members)}
    return {length: np.array(sorted(key for n, key in pairs if n == length), np.uint64) for length in {n for n, _ in pairs}}


def units(corpus: Corpus, scored: Mask) -> Units:
    """The rows as units.

    Args:
        scored: [N] rows that have surprises; others are in no unit, or in one of their own that is not asked.
    """
    rows = np.flatnonzero(scored)
    ids = np.fromiter(_ids(corpus.prompt, rows), np.uint64, len(rows))
    _, first, unit = np.unique(ids, return_index=True, return_inverse=True)
    if len(first) == len(rows):
        everyone = np.arange(len(corpus))
        return Units(corpus, corpus, scored.copy(), everyone, np.arange(len(corpus) + 1))
    by_appearance = np.argsort(np.argsort(first))[unit]  # units are numbered as their first rows stand in the data
    order = np.argsort(by_appearance, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(by_appearance))])
    members = rows[order]
    prompts = gathered(corpus.prompt, members[starts[:-1]], np.arange(len(first)))
    found = Corpus(prompts, gathered(corpus.completion, members, np.repeat(np.arange(len(first)), np.diff(starts))))
    return Units(corpus, found, np.ones(len(first), dtype=bool), members, starts)


def _ids(column: Column, rows: Ints) -> Iterator[int]:
    """A number for the words of each row, the same for the same words."""
    every = np.asarray(column.words)  # a slice of a memory map is slow to make
    for row in rows.tolist():
        words = every[column.starts[row] : column.starts[row + 1]]
        yield int.from_bytes(hashlib.blake2b(words.tobytes(), digest_size=8).digest(), "little")


def gathered(column: Column, rows: Ints, row: Ints) -> Column:
    """The words of some rows one after the other, on disk.

    Args:
        rows: [n]. row: [n] which row of what is made each of them is a part of, ascending.
    """
    starts = np.concatenate([[0], np.cumsum(column.starts[rows + 1] - column.starts[rows])])
    words, surprise = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 (open as long as what is made of them)
    for one in rows.tolist():
        place = slice(column.starts[one], column.starts[one + 1])
        words.write(np.asarray(column.words)[place].tobytes())
        surprise.write(np.asarray(column.surprise)[place].tobytes())
    return Column(starts, mapped(words, np.uint32), mapped(surprise, np.float16), row)
