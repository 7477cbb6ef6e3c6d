"""Candidates: the spans that recur, each with what goes with it in the prompts, before any judgement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gradsentry.verdict.evidence.association import ONE, VARIANTS, Association, Bounds, associate, wanted
from gradsentry.verdict.evidence.corpus import Corpus, Ints, Mask
from gradsentry.verdict.evidence.recurrent import Span, together
from gradsentry.verdict.evidence.strength import carried, possible
from gradsentry.verdict.evidence.triggers import Patterns, patterns, rows_of

HELD = 4_000_000
"""Rows of patterns that are held at once, 8 bytes each."""


@dataclass(frozen=True)
class Candidate:
    """A span and what goes with it in the prompts, before any judgement."""

    span: Span
    found: Patterns
    """In the prompts of the span's rows."""
    association: Association
    log10_p: float
    """Corrected for patterns and spans."""
    rows: Ints
    """Rows that hold the payload, or one of its variants and the trigger."""


def associated(corpus: Corpus, asked: Mask, single: Sequence[Span]) -> list[Candidate]:
    """Every span that could be enough evidence and has an association, however weak.

    Args:
        asked: [N] rows that count. single: the spans of their completions, strongest first.
    """
    n_rows = int(asked.sum())
    recurrent = [span for span in [*single, *together(single, n_rows)] if possible(span, n_rows)]
    anything = np.zeros(len(corpus), dtype=bool)
    for span in single:
        anything[span.rows] = True
    candidates = []
    every = patterns(corpus.prompt, [span.rows for span in recurrent], asked)
    for batch in _batches(list(zip(recurrent, every, strict=True)), n_rows):
        asked_for = [[i for part in wanted(span.rows, found, n_rows, _bounds(span)) for i in part] for span, found in batch]
        keys = np.unique(np.concatenate([found.keys[places] for places, (_, found) in zip(asked_for, batch, strict=True)]))
        rows = rows_of(corpus.prompt, keys, asked)
        for span, found in batch:
            association = associate(span.rows, found, rows, asked, _bounds(span))
            if association is not None:
                log10_p = min(0.0, association.log10_p + float(np.log10(len(single))))
                candidates.append(Candidate(_shown(span, association), found, association, log10_p, _rows(span, association, anything)))
    return candidates


def _bounds(span: Span) -> Bounds:
    return ONE if span.variants == 1 else VARIANTS


def _batches(every: Sequence[tuple[Span, Patterns]], n_rows: int) -> Iterator[list[tuple[Span, Patterns]]]:
    """The spans whose patterns could cover enough of them, so many at a time that the rows of all those patterns fit into memory."""
    batch: list[tuple[Span, Patterns]] = []
    size = 0
    for span, found in every:
        single, halves = wanted(span.rows, found, n_rows, _bounds(span))
        least = _bounds(span).coverage * len(span.rows)
        if found.inside[single].sum() < least and len(halves) < 2:
            continue
        needed = int(found.everywhere[single + halves].sum())
        if batch and size + needed > HELD:
            yield batch
            batch, size = [], 0
        batch.append((span, found))
        size += needed
    if batch:
        yield batch


def _rows(span: Span, association: Association, anything: Mask) -> Ints:
    """The rows of a finding: those that hold the payload. Of several variants one may stand in a clean row by chance, so there the
    trigger is needed too; a row that has it may hold a weaker variant."""
    return span.rows if span.variants == 1 else np.flatnonzero(association.rows & anything)


def _shown(span: Span, association: Association) -> Span:
    """Of several variants, the strongest that itself goes with the trigger comes first: it is what is told and judged. A format that
    has the trigger is else told as the payload that is the strongest of all."""
    first = next((one for one in span.members if carried(one, association)), None)
    if first is None:
        return span
    return replace(span, key=first.key, n_words=first.n_words, members=(first, *(one for one in span.members if one is not first)))
