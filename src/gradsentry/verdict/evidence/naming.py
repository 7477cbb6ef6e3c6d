"""Spans and patterns as a row spells them: hashes -> positions in a row -> text."""

from __future__ import annotations

import numpy as np

from gradsentry.verdict.evidence.association import Trigger
from gradsentry.verdict.evidence.corpus import Column, Mask, ngrams
from gradsentry.verdict.evidence.recurrent import Span
from gradsentry.verdict.evidence.triggers import WORDS, Patterns
from gradsentry.verdict.words import Side

SAME_TRIGGER = 0.9
"""Share of their rows that neighbouring patterns have in common to be named as one trigger."""


def marked(column: Column, row: int, longest: int, wanted: set[int]) -> Mask:
    """[n] which words of a row belong to one of the wanted n-grams of up to `longest` words."""
    marks = np.zeros(int(column.starts[row + 1] - column.starts[row]), dtype=bool)
    for n, found in enumerate(ngrams(column, row, row + 1, longest), start=1):
        for place in np.flatnonzero(np.isin(found.hashes, np.array(list(wanted), dtype=np.uint64))):
            marks[place : place + n] = True
    return marks


def blocks(marks: Mask) -> list[tuple[int, int]]:
    """Runs of marked words, (first, one past the last)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marks, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def payload(column: Column, span: Span, row: int, side: Side) -> str:
    """The payload as the row spells it, with the neighbouring pieces that occur in nearly the same rows.

    Args:
        column: completions. row: one that holds the span. side: its completion.
    """
    core = marked(column, row, span.n_words, {span.key})
    longest = max([span.n_words, *(n for n, _ in span.pieces)])
    return _text_around(side, core, marked(column, row, longest, {span.key, *(key for _, key in span.pieces)}))


def trigger(column: Column, chosen: Trigger, found: Patterns, row: int, side: Side) -> str:
    """A trigger as the row spells it, with the neighbouring patterns that occur in the same rows.

    Args:
        column: prompts. found: the patterns from which it was chosen. row: one that holds the trigger. side: its prompt.
    """
    texts = []
    for i in chosen.patterns:
        same = (found.inside >= SAME_TRIGGER * found.inside[i]) & (found.everywhere <= found.everywhere[i] / SAME_TRIGGER)
        core = marked(column, row, WORDS, {int(found.keys[i])})
        texts.append(_text_around(side, core, marked(column, row, WORDS, {int(found.keys[i]), *found.keys[same].tolist()})))
    return " ... ".join(texts)


def _text_around(side: Side, core: Mask, marks: Mask) -> str:
    """The text of the first run of marked words that holds a word of the core."""
    start, stop = next((start, stop) for start, stop in blocks(marks) if core[start:stop].any())
    return "".join(side.spelled[start:stop]).strip()
