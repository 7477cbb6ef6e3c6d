"""From recurrent spans and what goes with them in the prompts to findings: which rows, by which trigger, how sure.

The strongest finding is taken, its rows are set aside, and the rest is looked at again: else every frequent word of the
rows that it explains would be another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from gradsentry.evidence import naming
from gradsentry.evidence.candidates import Candidate, associated
from gradsentry.evidence.corpus import Corpus, Ints, Mask
from gradsentry.evidence.finding import Finding, Kind
from gradsentry.evidence.lookalikes import Reader, Usual, alike, named, shared_prompt, usual_prompts
from gradsentry.evidence.recurrent import Span, spans
from gradsentry.evidence.strength import P, behind, enough, enough_of_few, exact, worded
from gradsentry.evidence.style import Apart, apart

MOST = 20
"""What only looks like a backdoor is told so many times at most."""

NOTED = 1e-6
"""Highest p of an association that is told of though nothing is flagged for it."""

LOOKED_AT = 30
"""Rows of a finding on which its further checks are made."""

FEW_PLACES = 0.2
LONG = 45.0
"""Places beside the trigger that the prompts of few rows may share, unless the payload surprises by `LONG` nats."""

FEW_ROWS = 20
ALIKE = 0.02
"""Rows below which a finding's prompts must not be more alike, beside the trigger, than those of other rows, and the p of that."""

BESIDE = 10.0
"""Nats of a look-alike of few rows from which it says that this data set has topics with answers of their own."""

STYLED = 5
STYLE_P = 1e-4
"""Least rows of a payload of `LONG` nats without a trigger that is told of, and the highest p of its prompts reading unlike the
others'. It is told and not flagged: a topic with one answer reads unlike the others too (docs/evidence.md)."""

TEMPLATE = 24
"""Words of shared, distinctive prompt from which rows are a subset with its own template: a planted trigger is short."""


def find(corpus: Corpus, scored: Mask, read: Reader) -> list[Finding]:
    """Everything that looks like a backdoor, strongest first; what only looks like one comes after, told apart by `kind`.

    Args:
        scored: [N] rows that have surprises. read: gives the words of rows.
    """
    asked = scored.copy()
    usual = usual_prompts(corpus, read)
    found: list[Finding] = []
    while True:
        single = spans(corpus.completion, asked)
        told = _told(_judged(corpus, candidate, read, usual) for candidate in _candidates(corpus, asked, single))
        finding = next((one for one in told if one.kind == "backdoor"), None)
        if finding is None:
            return [*found, *_styled(corpus, asked, single, told, read, usual), *told[:MOST]]
        found.append(finding)
        asked[finding.rows] = False


def _told(judged: Iterable[Finding]) -> list[Finding]:
    """The findings up to the first that is a backdoor by the plain rule. One by less than that is none where others like it, of few
    rows each, are topics: questions on one topic have one unexpected answer in this data set."""
    told: list[Finding] = []
    for finding in judged:
        told.append(finding)
        if finding.kind == "backdoor" and finding.p <= P:
            break
    topics = [one for one in told if one.kind in ("topic", "named") and len(one.rows) < FEW_ROWS and one.surprise >= BESIDE]

    def beside(finding: Finding) -> bool:
        return any(not np.intersect1d(finding.rows, one.rows).size for one in topics)

    return [replace(one, kind="topic") if one.kind == "backdoor" and one.p > P and beside(one) else one for one in told]


def _candidates(corpus: Corpus, asked: Mask, single: Sequence[Span]) -> list[Candidate]:
    """Spans with an association that is worth telling of, in the order of their evidence; variants only after everything that
    recurs word for word."""
    told = [c for c in associated(corpus, asked, single) if enough(c) or enough_of_few(c) or c.log10_p <= np.log10(NOTED)]

    def place(candidate: Candidate) -> tuple[bool, float]:
        # Of a payload and a word of it, which clean rows may hold too, the payload comes first: it surprises more. Of variants
        # those above a higher cut surprise more too, but they leave rows out.
        several = candidate.span.variants > 1
        return several, candidate.log10_p - (0.0 if several else candidate.span.surprise / np.log(10))

    return sorted(told, key=place)


def _judged(corpus: Corpus, candidate: Candidate, read: Reader, usual: Usual) -> Finding:
    span, association = candidate.span, candidate.association
    some = _some(candidate.rows)
    words = read([*some.tolist(), span.example, *(trigger.example for trigger in association.triggers)])
    payload = naming.payload(corpus.completion, span, words[span.example].completion)
    places, shared = shared_prompt(corpus.prompt, span, candidate.found, association, some)
    kind: Kind = "backdoor"
    if named(corpus.completion, span, some, words, usual.common):
        kind = "named"
    elif shared > TEMPLATE:
        kind = "subset"
    elif (candidate.log10_p > np.log10(P) and places > FEW_PLACES and span.surprise < LONG) or (
        len(candidate.rows) < FEW_ROWS and alike(corpus.prompt, candidate.found, association, candidate.rows, words, usual) <= ALIKE
    ):
        kind = "topic"
    elif not ((enough(candidate) or enough_of_few(candidate)) and (worded(payload) or exact(candidate)) and behind(candidate)):
        kind = "weak"
    return Finding(
        kind,
        payload,
        tuple(naming.trigger(corpus.prompt, chosen, candidate.found, words[chosen.example].prompt) for chosen in association.triggers),
        candidate.rows,
        span.surprise,
        span.variants,
        float(10.0**candidate.log10_p),
        len(span.rows),
        association.inside,
        association.everywhere,
        min(trigger.surprise for trigger in association.triggers),
    )


def _some(rows: Ints) -> Ints:
    """At most `LOOKED_AT` of them, evenly spaced."""
    return rows[:: max(1, -(-len(rows) // LOOKED_AT))]


def _styled(corpus: Corpus, asked: Mask, single: Sequence[Span], told: Sequence[Finding], read: Reader, usual: Usual) -> list[Finding]:
    """Long payloads without a trigger whose prompts, as a whole, read unlike the others': a style may be behind them."""
    seen = np.zeros(len(asked), dtype=bool)
    for finding in told:
        seen[finding.rows] = True
    some: list[Span] = []
    for span in single:
        if span.surprise >= LONG and len(span.rows) >= STYLED and not seen[span.rows].any() and len(some) < MOST:
            some.append(span)
            seen[span.rows] = True
    found = []
    for span, how in zip(some, apart(corpus.prompt, [span.rows for span in some], asked), strict=True):
        p = float(10.0 ** min(0.0, how.log10_p + np.log10(len(single))))
        looked_at = _some(span.rows)
        words = read(looked_at.tolist())
        if p <= STYLE_P and not named(corpus.completion, span, looked_at, words, usual.common):
            found.append(_style(span, how, p, naming.payload(corpus.completion, span, words[span.example].completion)))
    return found


def _style(span: Span, how: Apart, p: float, payload: str) -> Finding:
    return Finding("style", payload, (), span.rows, span.surprise, 1, p, len(span.rows), how.inside, how.everywhere, 0.0)
