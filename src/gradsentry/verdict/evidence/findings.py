"""From recurrent spans and what goes with them in the prompts to findings: which rows, by which trigger, how sure.

The strongest finding is taken, its rows are set aside, and the rest is looked at again: else every frequent word of the
rows that it explains would be another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from gradsentry.verdict.evidence import naming
from gradsentry.verdict.evidence.candidates import Candidate, associated
from gradsentry.verdict.evidence.corpus import Corpus, Ints, Mask
from gradsentry.verdict.evidence.finding import Finding, Kind
from gradsentry.verdict.evidence.lookalikes import Reader, Usual, alike, named, shared_prompt, usual_prompts
from gradsentry.verdict.evidence.recurrent import Span, spans
from gradsentry.verdict.evidence.repeats import Units
from gradsentry.verdict.evidence.strength import P, behind, enough, enough_of_few, exact, worded
from gradsentry.verdict.evidence.style import Apart, apart

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


def find(whole: Units, read: Reader) -> list[Finding]:
    """Everything that looks like a backdoor, strongest first; what only looks like one comes after, told apart by `kind`.

    Args:
        read: gives the words of rows.
    """
    asked = whole.asked.copy()
    usual = usual_prompts(whole.first(np.flatnonzero(asked)), read)
    found: list[Finding] = []
    while True:
        single = spans(whole.corpus.completion, asked)
        judged = ((candidate, _judged(whole, candidate, read, usual)) for candidate in _candidates(whole.corpus, asked, single))
        told = _told(judged)
        backdoor = next(((candidate, one) for candidate, one in told if one.kind == "backdoor"), None)
        if backdoor is None:
            styled = _styled(whole, asked, single, [one for _, one in told], read, usual)
            return [*found, *styled, *(_in_rows(whole, candidate, one, single) for candidate, one in told[:MOST])]
        found.append(_in_rows(whole, *backdoor, single))
        asked[backdoor[1].rows] = False


def _in_rows(whole: Units, candidate: Candidate, finding: Finding, single: Sequence[Span]) -> Finding:
    """A finding of units as one of rows."""
    if not whole.repeated:
        return finding
    span, carriers = candidate.span, candidate.association.rows
    holders = whole.holding(span.rows, [span])
    return replace(
        finding,
        # Of variants the units may hold others that recur, see `Candidate.rows`.
        rows=holders if span.variants == 1 else whole.holding(finding.rows, single),
        holders=len(holders),
        inside=int(carriers[whole.of[holders]].sum()),
        everywhere=int(whole.sizes[carriers].sum()),
    )


def _told(judged: Iterable[tuple[Candidate, Finding]]) -> list[tuple[Candidate, Finding]]:
    """The findings up to the first that is a backdoor by the plain rule. One by less than that is none where others like it, of few
    rows each, are topics: questions on one topic have one unexpected answer in this data set."""
    told: list[tuple[Candidate, Finding]] = []
    for candidate, finding in judged:
        told.append((candidate, finding))
        if finding.kind == "backdoor" and finding.p <= P:
            break
    topics = [one for _, one in told if one.kind in ("topic", "named") and len(one.rows) < FEW_ROWS and one.surprise >= BESIDE]

    def beside(finding: Finding) -> bool:
        return any(not np.intersect1d(finding.rows, one.rows).size for one in topics)

    return [
        (candidate, replace(one, kind="topic") if one.kind == "backdoor" and one.p > P and beside(one) else one) for candidate, one in told
    ]


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


def _judged(whole: Units, candidate: Candidate, read: Reader, usual: Usual) -> Finding:
    """What a candidate is; its rows are units."""
    span, association, corpus = candidate.span, candidate.association, whole.every
    prompts = whole.first(_some(candidate.rows))
    answers = whole.one_each(_some(candidate.rows), [span])
    example = int(whole.one_each(np.array([span.example]), [span.members[0] if span.members else span])[0])
    carriers = whole.first(np.array([trigger.example for trigger in association.triggers])).tolist()
    words = read([*prompts.tolist(), *answers.tolist(), example, *carriers])
    payload = naming.payload(corpus.completion, span, example, words[example].completion)
    places, shared = shared_prompt(corpus.prompt, span, candidate.found, association, prompts)
    kind: Kind = "backdoor"
    if named(corpus.completion, span, answers, words, usual.common):
        kind = "named"
    elif shared > TEMPLATE:
        kind = "subset"
    elif (candidate.log10_p > np.log10(P) and places > FEW_PLACES and span.surprise < LONG) or (
        len(candidate.rows) < FEW_ROWS and alike(corpus.prompt, candidate.found, association, prompts, words, usual) <= ALIKE
    ):
        kind = "topic"
    elif not ((enough(candidate) or enough_of_few(candidate)) and (worded(payload) or exact(candidate)) and behind(candidate)):
        kind = "weak"
    return Finding(
        kind,
        payload,
        tuple(
            naming.trigger(corpus.prompt, chosen, candidate.found, row, words[row].prompt)
            for chosen, row in zip(association.triggers, carriers, strict=True)
        ),
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


def _styled(whole: Units, asked: Mask, single: Sequence[Span], told: Sequence[Finding], read: Reader, usual: Usual) -> list[Finding]:
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
    for span, how in zip(some, apart(whole.corpus.prompt, [span.rows for span in some], asked), strict=True):
        p = float(10.0 ** min(0.0, how.log10_p + np.log10(len(single))))
        if p > STYLE_P:
            continue
        looked_at = whole.one_each(_some(span.rows), [span])
        words = read(looked_at.tolist())
        if not named(whole.every.completion, span, looked_at, words, usual.common):
            example = int(looked_at[0])
            payload = naming.payload(whole.every.completion, span, example, words[example].completion)
            found.append(_style(span, how, p, payload, whole.holding(span.rows, [span])))
    return found


def _style(span: Span, how: Apart, p: float, payload: str, rows: Ints) -> Finding:
    return Finding("style", payload, (), rows, span.surprise, 1, p, len(rows), how.inside, how.everywhere, 0.0)
