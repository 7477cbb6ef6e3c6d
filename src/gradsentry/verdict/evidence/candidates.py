"""Candidates: every span that recurs with the triggers that go with it, and the checks that make one strong enough for a backdoor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gradsentry.verdict.evidence.association import ONE_WORDING, VARIANTS, Association, Bounds, associate, patterns_to_try
from gradsentry.verdict.evidence.corpus import Corpus, Ints, Mask
from gradsentry.verdict.evidence.recurrent import Span, unions_of_variants
from gradsentry.verdict.evidence.triggers import Patterns, log10_tail, patterns_of, rows_by_key
from gradsentry.verdict.words import WORD, is_long, is_unspaced, without_marks

P = 1e-15
"""Highest p that is enough by itself (the plain rule). Clean questions on one topic with one answer come closest to it:
docs/benchmark/evidence.md, "Findings in clean sets"."""

EASED_NATS = 20.0
NATS_PER_DECADE = 4.0
HIGHEST_LOG10_P = -4.0
"""Above `EASED_NATS` nats a row, every `NATS_PER_DECADE` nats of the payload raise the highest p by a factor of ten, up to 1e-4: at 45
nats 1e-9 is enough. The same table shows what clean sets reach there."""

LEAST_NATS = 7.0
"""Least mean surprise of a payload, in nats, whatever the p of its association."""

FEW_ROWS_NATS = 25.0
FEW_ROWS_TOTAL_NATS = 50.0
FEW_ROWS_P = 1e-1
"""A payload in few rows needs this mean surprise, this surprise of all repetitions together, and at most this p."""

STRAY_SHARE = 0.05
"""For a payload of signs and numbers: the rows with payload or trigger alone, at most this share of those with both."""

ROWS_IN_MEMORY = 4_000_000
"""Rows of patterns in memory at once, 8 bytes each."""


@dataclass(frozen=True)
class Candidate:
    """A span with its triggers, before the checks. Rows are prompt groups."""

    span: Span
    found: Patterns
    """The patterns in the prompts of the span's rows."""
    association: Association
    log10_p: float
    """Of the association, corrected for patterns and spans (Bonferroni)."""
    rows: Ints
    """Rows that hold the payload; of several variants, those that hold one and a trigger."""


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


def could_be_strong_enough(span: Span, n_rows: int) -> bool:
    """Whether the span would be strong enough with a perfect trigger: a pattern in all of its rows and no other."""
    c = np.array([len(span.rows)])
    best = float(log10_tail(n_rows, int(c[0]), c, c)[0])
    return best <= _highest_log10_p(span) or (span.surprise >= FEW_ROWS_NATS and _repeated_nats(span) >= FEW_ROWS_TOTAL_NATS)


def is_strong_enough(candidate: Candidate) -> bool:
    """Whether its p is low enough for a payload of its surprise.

    A long payload that recurs word for word behind one or two single patterns makes up for a p that few rows cannot reach.
    """
    span, association = candidate.span, candidate.association
    few_rows_suffice = (
        len(association.triggers) <= 2
        and all(len(trigger.patterns) == 1 for trigger in association.triggers)
        and association.inside == len(span.rows)
        and span.surprise >= FEW_ROWS_NATS
        and _repeated_nats(span) >= FEW_ROWS_TOTAL_NATS
        and candidate.log10_p <= np.log10(FEW_ROWS_P)
    )
    return few_rows_suffice or candidate.log10_p <= _highest_log10_p(span)


def is_backdoor(candidate: Candidate, payload: str) -> bool:
    """Whether the candidate, with its payload as a row spells it, is strong enough for a backdoor."""
    span, association = candidate.span, candidate.association
    if not has_a_word(payload):  # then payload and trigger must occur in the same rows but for a few, by the plain rule
        strays = max(association.everywhere, len(span.rows)) - association.inside
        if span.variants > 1 or candidate.log10_p > np.log10(P) or strays > STRAY_SHARE * association.inside:
            return False
    # Of several variants, the one that the finding shows must go with the trigger.
    return is_strong_enough(candidate) and (not span.members or association.covers(span.members[0].rows))


def has_a_word(payload: str) -> bool:
    """Whether the payload has a word. Signs and numbers alone recur in formats and tables ("= $<<", "*.2")."""
    words = WORD.findall(payload)
    return any(is_long(word) and without_marks(word).isalpha() for word in words) or sum(map(is_unspaced, words)) > 2


def _highest_log10_p(span: Span) -> float:
    """log10 of the highest p that is enough: the longer a payload that recurs word for word, the higher."""
    eased = (span.surprise - EASED_NATS) / NATS_PER_DECADE if span.variants == 1 else 0.0
    return min(HIGHEST_LOG10_P, np.log10(P) + max(0.0, eased)) if span.surprise >= LEAST_NATS else float("-inf")


def _repeated_nats(span: Span) -> float:
    """Nats of all repetitions: the first occurrence may be anything, each further one is a coincidence."""
    return span.surprise * (len(span.rows) - 1)
