"""Rows that repeat a prompt word for word count once.

Copies of a row, or several answers to one question, repeat the same words. A span that recurs in them, and prompt words that go with
it, are no coincidence. The unit of counting is therefore the prompt group: one prompt with all its answers. Findings are reported,
and rows flagged, by row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gradsentry.verdict.evidence.corpus import Column, ColumnWriter, Corpus, Ints, Mask, chunks, is_among, ngrams
from gradsentry.verdict.evidence.recurrent import UNEXPECTED, Span


@dataclass(frozen=True)
class PromptGroups:
    """N rows in G groups, one for each prompt."""

    rows: Corpus
    """[N] The rows."""
    groups: Corpus
    """[G] The groups: a prompt, and its answers as parts of one completion. Where no prompt repeats this is `rows` itself."""
    scored: Mask
    """[G] Whether the group's rows were scored."""
    members: Ints
    """[N] The rows, group after group."""
    starts: Ints
    """[G + 1] Where the members of each group begin."""

    @property
    def repeated(self) -> bool:
        """Whether some prompt repeats."""
        return self.groups is not self.rows

    @cached_property
    def sizes(self) -> Ints:
        """[G] Number of rows in each group."""
        return np.diff(self.starts)

    @cached_property
    def group_of(self) -> Ints:
        """[N] The group of each row; -1 if it was not scored."""
        found = np.full(len(self.rows), -1)
        found[self.members] = np.repeat(np.arange(len(self.sizes)), self.sizes)
        return found

    def first_rows(self, groups: Ints) -> Ints:
        """The first row of each group; all rows of a group have its prompt."""
        return self.members[self.starts[groups]]

    def rows_with(self, groups: Ints, spans: Sequence[Span]) -> Ints:
        """The rows of some groups whose answers hold one of the spans, ascending."""
        return np.sort(self._rows_with(groups, spans)) if self.repeated else groups

    def one_row_with(self, groups: Ints, spans: Sequence[Span]) -> Ints:
        """One row of each group whose answer holds one of the spans, in the order of the groups."""
        if not self.repeated:
            return groups
        rows = self._rows_with(groups, spans)
        _, place = np.unique(self.group_of[rows], return_index=True)
        return rows[np.sort(place)]

    def _rows_with(self, groups: Ints, spans: Sequence[Span]) -> Ints:
        wanted = {(one.n_words, one.key) for span in spans for one in (span, *span.members)}
        keys = {n: np.array(sorted(key for length, key in wanted if length == n), np.uint64) for n in {n for n, _ in wanted}}
        rows = np.concatenate([self.members[:0], *(self.members[self.starts[group] : self.starts[group + 1]] for group in groups)])
        held = np.zeros(len(rows), dtype=bool)
        column = _gathered(self.rows.completion, rows, np.arange(len(rows)))
        for first, stop in chunks(column):
            for n, found in enumerate(ngrams(column, first, stop, max(keys, default=0)), start=1):
                if n in keys:
                    held[found.rows[is_among(keys[n], found.hashes) & (found.surprise >= UNEXPECTED)]] = True
        return rows[held]


def group_by_prompt(rows: Corpus) -> PromptGroups:
    """Group the rows by prompt. Rows without a completion were not scored: they are in no group, or alone in one that is not scored."""
    scored = np.diff(rows.completion.starts) > 0
    numbers = np.flatnonzero(scored)
    words, starts = np.asarray(rows.prompt.words), rows.prompt.starts  # slicing a memory map is slow
    prompts = (words[starts[row] : starts[row + 1]].tobytes() for row in numbers.tolist())
    digests = b"".join(hashlib.blake2b(prompt, digest_size=8).digest() for prompt in prompts)
    _, first, group = np.unique(np.frombuffer(digests, "<u8"), return_index=True, return_inverse=True)
    if len(first) == len(numbers):
        return PromptGroups(rows, rows, scored, np.arange(len(rows)), np.arange(len(rows) + 1))
    by_appearance = np.argsort(np.argsort(first))[group]  # groups are numbered by their first rows
    starts = np.concatenate([[0], np.cumsum(np.bincount(by_appearance))])
    members = numbers[np.argsort(by_appearance, kind="stable")]
    prompts = _gathered(rows.prompt, members[starts[:-1]], np.arange(len(first)))
    groups = Corpus(prompts, _gathered(rows.completion, members, np.repeat(np.arange(len(first)), np.diff(starts))))
    return PromptGroups(rows, groups, np.ones(len(first), dtype=bool), members, starts)


def _gathered(column: Column, rows: Ints, row: Ints) -> Column:
    """The words of some rows in a new column, on disk.

    Args:
        rows: [n]. row: [n] the row of the new column to which each of them belongs, ascending.
    """
    writer = ColumnWriter()
    words, surprise = np.asarray(column.words), np.asarray(column.surprise)  # slicing a memory map is slow
    for one in rows.tolist():
        place = slice(column.starts[one], column.starts[one + 1])
        writer.add(words[place], surprise[place])
    return writer.column(row)
