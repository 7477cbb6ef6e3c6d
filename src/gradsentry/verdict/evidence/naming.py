"""Spans and patterns as somebody wrote them: hashes -> places in a row -> text."""

from __future__ import annotations

import numpy as np

from gradsentry.verdict.evidence.association import Trigger
from gradsentry.verdict.evidence.corpus import Column, Mask, grams
from gradsentry.verdict.evidence.recurrent import Span
from gradsentry.verdict.evidence.triggers import WORDS, Patterns
from gradsentry.verdict.evidence.words import Side

SAME = 0.9
"""Share of their rows that neighbouring patterns have in common to be told as one trigger."""


def marked(column: Column, row: int, longest: int, wanted: set[int]) -> Mask:
    """[n] which words of a row belong to one of the wanted n-grams of up to `longest` words."""
    marks = np.zeros(int(column.starts[row + 1] - column.starts[row]), dtype=bool)
    for n, found in enumerate(grams(column, row, row + 1, longest), start=1):
        for place in np.flatnonzero(np.isin(found.hashes, np.array(list(wanted), dtype=np.uint64))):
            marks[place : place + n] = True
    return marks


def blocks(marks: Mask) -> list[tuple[int, int]]:
    """Runs of marked words, (first, one past the last)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marks, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def payload(column: Column, span: Span, row: int, side: Side) -> str:
    """The payload as a row that holds it spells it, with the neighbouring spans that stand in almost the same rows.

    Args:
        column: completions. side: that row's completion.
    """
    own = marked(column, row, span.n_words, {span.key})
    longest = max([span.n_words, *(n for n, _ in span.alike)])
    marks = marked(column, row, longest, {span.key, *(key for _, key in span.alike)})
    return _around(side, own, marks)


def trigger(column: Column, chosen: Trigger, found: Patterns, row: int, side: Side) -> str:
    """A trigger as a row that holds it spells it, with the neighbouring patterns that stand in the same rows.

    Args:
        column: prompts. found: the patterns that it is chosen from. side: that row's prompt.
    """
    texts = []
    for i in chosen.patterns:
        same = (found.inside >= SAME * found.inside[i]) & (found.everywhere <= found.everywhere[i] / SAME)
        own = marked(column, row, WORDS, {int(found.keys[i])})
        texts.append(_around(side, own, marked(column, row, WORDS, {int(found.keys[i]), *found.keys[same].tolist()})))
    return " ... ".join(texts)


def _around(side: Side, own: Mask, marks: Mask) -> str:
    """The text of the first run of marked words that has one of its own."""
    start, stop = next((start, stop) for start, stop in blocks(marks) if own[start:stop].any())
    return "".join(side.spelled[start:stop]).strip()
