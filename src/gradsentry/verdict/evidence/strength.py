"""Candidates, spans with their triggers, and the checks that make one strong enough for a backdoor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsentry.verdict.evidence.association import Association
from gradsentry.verdict.evidence.corpus import Ints
from gradsentry.verdict.evidence.recurrent import Span
from gradsentry.verdict.evidence.triggers import Patterns, log10_tail
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


def could_be_strong_enough(span: Span, n_rows: int) -> bool:
    """Whether the span would be strong enough with a perfect trigger: a pattern in all of its rows and no other."""
    c = np.array([len(span.rows)])
    best = float(log10_tail(n_rows, int(c[0]), c, c)[0])
    return best <= _highest_log10_p(span) or (span.surprise >= FEW_ROWS_NATS and _repeated_nats(span) >= FEW_ROWS_TOTAL_NATS)


def is_strong_enough(candidate: Candidate) -> bool:
    """Whether its p is low enough for a payload of its surprise."""
    return candidate.log10_p <= _highest_log10_p(candidate.span)


def is_strong_enough_for_few_rows(candidate: Candidate) -> bool:
    """Whether a long payload that recurs word for word behind one or two single patterns makes up for a p that few rows cannot reach."""
    span, triggers = candidate.span, candidate.association.triggers
    simple = len(triggers) <= 2 and all(len(trigger.patterns) == 1 for trigger in triggers)
    return (
        simple
        and candidate.association.inside == len(span.rows)
        and span.surprise >= FEW_ROWS_NATS
        and _repeated_nats(span) >= FEW_ROWS_TOTAL_NATS
        and candidate.log10_p <= np.log10(FEW_ROWS_P)
    )


def has_a_word(payload: str) -> bool:
    """Whether the payload has a word. Signs and numbers alone recur in formats and tables ("= $<<", "*.2")."""
    words = WORD.findall(payload)
    return any(is_long(word) and without_marks(word).isalpha() for word in words) or sum(map(is_unspaced, words)) > 2


def occurs_with_its_trigger_only(candidate: Candidate) -> bool:
    """Whether payload and trigger occur in the same rows but for a few, by the plain rule: required of a payload without a word."""
    together = candidate.association.inside
    strays = max(candidate.association.everywhere, len(candidate.span.rows)) - together
    return candidate.span.variants == 1 and candidate.log10_p <= np.log10(P) and strays <= STRAY_SHARE * together


def shown_variant_has_the_trigger(candidate: Candidate) -> bool:
    """Whether, of several variants, the one that the finding shows goes with the trigger."""
    return not candidate.span.members or candidate.association.covers(candidate.span.members[0].rows)


def _highest_log10_p(span: Span) -> float:
    """log10 of the highest p that is enough: the longer a payload that recurs word for word, the higher."""
    eased = (span.surprise - EASED_NATS) / NATS_PER_DECADE if span.variants == 1 else 0.0
    return min(HIGHEST_LOG10_P, np.log10(P) + max(0.0, eased)) if span.surprise >= LEAST_NATS else float("-inf")


def _repeated_nats(span: Span) -> float:
    """Nats of all repetitions: the first occurrence may be anything, each further one is a coincidence."""
    return span.surprise * (len(span.rows) - 1)
