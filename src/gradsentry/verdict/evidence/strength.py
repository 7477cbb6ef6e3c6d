"""How much evidence is enough: by a small p, by less of it for a long payload, and what is asked of payloads without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradsentry.verdict.evidence.association import ONE, Association
from gradsentry.verdict.evidence.recurrent import Span
from gradsentry.verdict.evidence.triggers import log10_tail
from gradsentry.verdict.evidence.words import WORD, long, plain, unparted

if TYPE_CHECKING:
    from gradsentry.verdict.evidence.candidates import Candidate

P = 1e-15
"""Highest p of an association that is enough by itself. On clean sets questions on one topic with one answer come nearest to it; how
near, docs/benchmark.md says ("What looked like a backdoor in clean sets")."""

EASED = 20.0
EASING = 4.0
LEAST = -4.0
"""A payload that surprises by more than `EASED` nats eases that by a power of ten for every `EASING` nats, to `LEAST` at most:
at 45 nats 1e-9 is enough. The same table shows what clean sets reach there."""

EXPECTED = 7.0
"""Least mean surprise of a payload, in nats, however sure its association is."""

FEW_SURPRISE = 25.0
FEW_NATS = 50.0
FEW_P = 1e-1
"""Least mean surprise, least surprise of all repetitions together, and highest p of a finding of few rows."""

BARE = 0.05
"""Share of the rows with both that may have one alone, where the payload is signs and numbers."""


def possible(span: Span, n_rows: int) -> bool:
    """Whether the span could be enough evidence if one pattern stood in its rows and nowhere else."""
    c = np.array([len(span.rows)])
    best = float(log10_tail(n_rows, int(c[0]), c, c)[0])
    return best <= needed(span) or (span.surprise >= FEW_SURPRISE and payload_nats(span) >= FEW_NATS)


def needed(span: Span) -> float:
    """log10 of the highest p that is enough: the longer what is said word for word, the less its association has to show."""
    eased = (span.surprise - EASED) / EASING if span.variants == 1 else 0.0
    return min(LEAST, np.log10(P) + max(0.0, eased)) if span.surprise >= EXPECTED else float("-inf")


def payload_nats(span: Span) -> float:
    """What the repetitions of a span say: the first time it may be anything, each further time it is a coincidence."""
    return span.surprise * (len(span.rows) - 1)


def enough(candidate: Candidate) -> bool:
    return candidate.log10_p <= needed(candidate.span)


def doubtful(candidate: Candidate) -> bool:
    """Whether it is a finding by less than the plain rule: by few rows, or by several spans taken as one."""
    return candidate.span.variants > 1 or candidate.log10_p > np.log10(P)


def exact(candidate: Candidate) -> bool:
    """Whether payload and trigger stand in the same rows but for a few, by the plain rule: what is asked of a payload without a word."""
    together = candidate.association.inside
    beside = max(candidate.association.everywhere, len(candidate.span.rows)) - together
    return not doubtful(candidate) and beside <= BARE * together


def behind(candidate: Candidate) -> bool:
    """Whether, of several variants, the one that is told itself goes with the trigger."""
    return not candidate.span.members or carried(candidate.span.members[0], candidate.association)


def carried(span: Span, association: Association) -> bool:
    """Whether the trigger stands in enough of a variant's own rows."""
    return bool(association.rows[span.rows].mean() >= ONE.coverage)


def worded(payload: str) -> bool:
    """Whether the payload has a word: signs and numbers alone recur in formats and tables ("= $<<", "*.2")."""
    words = WORD.findall(payload)
    return any(long(word) and plain(word).isalpha() for word in words) or sum(map(unparted, words)) > 2


def enough_of_few(candidate: Candidate) -> bool:
    """Few rows cannot have a small p; a long payload that recurs word for word behind one simple trigger makes up for it."""
    span, triggers = candidate.span, candidate.association.triggers
    simple = (
        len(triggers) <= 2 and all(len(trigger.patterns) == 1 for trigger in triggers) and candidate.association.inside == len(span.rows)
    )
    return simple and span.surprise >= FEW_SURPRISE and payload_nats(span) >= FEW_NATS and candidate.log10_p <= np.log10(FEW_P)
