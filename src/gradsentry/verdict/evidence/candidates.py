"""Candidates: every span that recurs with the triggers that go with it, before the checks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from gradsentry.verdict.evidence.association import ONE_WORDING, VARIANTS, Association, Bounds, associate, patterns_to_try
from gradsentry.verdict.evidence.corpus import Corpus, Mask
from gradsentry.verdict.evidence.recurrent import Span, unions_of_variants
from gradsentry.verdict.evidence.strength import Candidate, could_be_strong_enough
from gradsentry.verdict.evidence.triggers import Patterns, patterns_of, rows_by_key

ROWS_IN_MEMORY = 4_000_000
"""Rows of patterns in memory at once, 8 bytes each."""


def candidates(corpus: Corpus, active: Mask, spans: Sequence[Span]) -> list[Candidate]:
    """Every span that could be strong enough and has triggers, however weak.

    Args:
        active: [N] rows to count. spans: those of their completions, strongest first.
    """
    n_rows = int(active.sum())
    possible = [span for span in [*spans, *unions_of_variants(spans, n_rows)] if could_be_strong_enough(span, n_rows)]
    has_a_span = np.zeros(len(corpus), dtype=bool)
    for span in spans:
        has_a_span[span.rows] = True
    found_candidates = []
    patterns = patterns_of(corpus.prompt, [span.rows for span in possible], active)
    for batch in _batches(list(zip(possible, patterns, strict=True)), n_rows):
        tried = [[i for part in patterns_to_try(span.rows, found, n_rows, _bounds(span)) for i in part] for span, found in batch]
        keys = np.unique(np.concatenate([found.keys[places] for places, (_, found) in zip(tried, batch, strict=True)]))
        rows = rows_by_key(corpus.prompt, keys, active)
        for span, found in batch:
            association = associate(span.rows, found, rows, active, _bounds(span))
            if association is not None:
                log10_p = min(0.0, association.log10_p + float(np.log10(len(spans))))
                # A clean row may hold one of several variants by chance, so it needs the trigger too. A row with the trigger may hold a
                # variant below the cut.
                holders = span.rows if span.variants == 1 else np.flatnonzero(association.rows & has_a_span)
                found_candidates.append(Candidate(_shown_first(span, association), found, association, log10_p, holders))
    return found_candidates


def _bounds(span: Span) -> Bounds:
    return ONE_WORDING if span.variants == 1 else VARIANTS


def _batches(pairs: Sequence[tuple[Span, Patterns]], n_rows: int) -> Iterator[list[tuple[Span, Patterns]]]:
    """The spans whose patterns could cover enough of them, in batches whose pattern rows fit into memory."""
    batch: list[tuple[Span, Patterns]] = []
    size = 0
    for span, found in pairs:
        single, halves = patterns_to_try(span.rows, found, n_rows, _bounds(span))
        least = _bounds(span).coverage * len(span.rows)
        if found.inside[single].sum() < least and len(halves) < 2:
            continue
        needed = int(found.everywhere[single + halves].sum())
        if batch and size + needed > ROWS_IN_MEMORY:
            yield batch
            batch, size = [], 0
        batch.append((span, found))
        size += needed
    if batch:
        yield batch


def _shown_first(span: Span, association: Association) -> Span:
    """Put the strongest variant that itself goes with the trigger first: the finding shows and checks that one. The strongest variant of
    all may be a format that occurs with and without the trigger."""
    first = next((one for one in span.members if association.covers(one.rows)), None)
    if first is None:
        return span
    return replace(span, key=first.key, n_words=first.n_words, members=(first, *(one for one in span.members if one is not first)))
