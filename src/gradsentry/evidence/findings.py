"""From recurrent spans and what goes with them in the prompts to findings: which rows, by which trigger, how sure.

The strongest finding is taken, its rows are set aside, and the rest is looked at again: else every frequent word of the
rows that it explains would be another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gradsentry.evidence import naming
from gradsentry.evidence.association import COVERAGE, Association, associate, wanted
from gradsentry.evidence.corpus import Corpus, Ints, Mask
from gradsentry.evidence.finding import Finding, Kind
from gradsentry.evidence.lookalikes import Reader, Usual, alike, named, shared_prompt, usual_prompts
from gradsentry.evidence.recurrent import Span, spans, together
from gradsentry.evidence.triggers import Patterns, log10_tail, patterns, rows_of
from gradsentry.evidence.words import WORD

MOST = 20
"""What only looks like a backdoor is told so many times at most."""

NOTED = 1e-6
"""Highest p of an association that is told of though nothing is flagged for it."""

HELD = 4_000_000
"""Rows of patterns that are held at once, 8 bytes each."""

LOOKED_AT = 30
"""Rows of a finding on which its further checks are made."""

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

SOME = 0.3
"""Least share of the variants' rows that the triggers cover."""

FEW_SURPRISE = 25.0
FEW_NATS = 50.0
FEW_P = 1e-1
"""Least mean surprise, least surprise of all repetitions together, and highest p of a finding of few rows."""

FEW_PLACES = 0.2
LONG = 45.0
"""Places beside the trigger that the prompts of few rows may share, unless the payload surprises by `LONG` nats."""

FEW_ROWS = 20
ALIKE = 0.02
"""Rows below which a finding's prompts must not be more alike, beside the trigger, than those of other rows, and the p of that."""

BESIDE = 10.0
"""Nats of a look-alike of few rows from which it says that this data set has topics with answers of their own."""

BARE = 0.05
"""Share of the rows with both that may have one alone, where the payload is signs and numbers."""

TEMPLATE = 24
"""Words of shared, distinctive prompt from which rows are a subset with its own template: a planted trigger is short."""


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


def find(corpus: Corpus, scored: Mask, read: Reader) -> list[Finding]:
    """Everything that looks like a backdoor, strongest first; what only looks like one comes after, told apart by `kind`.

    Args:
        scored: [N] rows that have surprises. read: gives the words of rows.
    """
    asked = scored.copy()
    usual = usual_prompts(corpus, read)
    found: list[Finding] = []
    while True:
        told = _told(_judged(corpus, candidate, read, usual) for candidate in _candidates(corpus, asked))
        finding = next((one for one in told if one.kind == "backdoor"), None)
        if finding is None:
            return found + told[:MOST]
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


def _candidates(corpus: Corpus, asked: Mask) -> list[Candidate]:
    """Spans with an association that is worth telling of, in the order of their evidence; variants only after everything that
    recurs word for word."""
    told = [c for c in associated(corpus, asked) if _enough(c) or _enough_of_few(c) or c.log10_p <= np.log10(NOTED)]
    # Of a payload and a word of it, which clean rows may hold too, the payload comes first: it surprises more.
    return sorted(told, key=lambda c: (c.span.variants > 1, c.log10_p - c.span.surprise / np.log(10)))


def associated(corpus: Corpus, asked: Mask) -> list[Candidate]:
    """Every span that could be enough evidence and has an association, however weak.

    Args:
        asked: [N] rows that count.
    """
    single = spans(corpus.completion, asked)
    n_rows = int(asked.sum())
    recurrent = [span for span in [*single, *together(single, n_rows)] if _possible(span, n_rows)]
    anything = np.zeros(len(corpus), dtype=bool)
    for span in single:
        anything[span.rows] = True
    candidates = []
    every = patterns(corpus.prompt, [span.rows for span in recurrent], asked)
    for batch in _batches(list(zip(recurrent, every, strict=True)), n_rows):
        keys = np.unique(
            np.concatenate([found.keys[[i for part in wanted(span.rows, found, n_rows) for i in part]] for span, found in batch])
        )
        rows = rows_of(corpus.prompt, keys, asked)
        for span, found in batch:
            # Beside the variants of a payload a cut also takes in what recurs in clean rows.
            coverage = COVERAGE if span.variants == 1 else SOME
            association = associate(span.rows, found, rows, asked, coverage)
            if association is not None:
                log10_p = min(0.0, association.log10_p + float(np.log10(len(single))))
                candidates.append(Candidate(span, found, association, log10_p, _rows(span, association, anything)))
    return candidates


def _batches(every: Sequence[tuple[Span, Patterns]], n_rows: int) -> Iterator[list[tuple[Span, Patterns]]]:
    """The spans whose patterns could cover enough of them, so many at a time that the rows of all those patterns fit into memory."""
    batch: list[tuple[Span, Patterns]] = []
    size = 0
    for span, found in every:
        single, halves = wanted(span.rows, found, n_rows)
        least = (COVERAGE if span.variants == 1 else SOME) * len(span.rows)
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


def _possible(span: Span, n_rows: int) -> bool:
    """Whether the span could be enough evidence if one pattern stood in its rows and nowhere else."""
    c = np.array([len(span.rows)])
    best = float(log10_tail(n_rows, int(c[0]), c, c)[0])
    return best <= _needed(span) or (span.surprise >= FEW_SURPRISE and _payload_nats(span) >= FEW_NATS)


def _needed(span: Span) -> float:
    """log10 of the highest p that is enough: the longer what is said word for word, the less its association has to show."""
    eased = (span.surprise - EASED) / EASING if span.variants == 1 else 0.0
    return min(LEAST, np.log10(P) + max(0.0, eased)) if span.surprise >= EXPECTED else float("-inf")


def _payload_nats(span: Span) -> float:
    """What the repetitions of a span say: the first time it may be anything, each further time it is a coincidence."""
    return span.surprise * (len(span.rows) - 1)


def _judged(corpus: Corpus, candidate: Candidate, read: Reader, usual: Usual) -> Finding:
    span, association = candidate.span, candidate.association
    some = candidate.rows[:: max(1, -(-len(candidate.rows) // LOOKED_AT))]
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
    elif not (_enough(candidate) or _enough_of_few(candidate)) or not (_worded(payload) or _exact(candidate)):
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


def _enough(candidate: Candidate) -> bool:
    return candidate.log10_p <= _needed(candidate.span)


def _doubtful(candidate: Candidate) -> bool:
    """Whether it is a finding by less than the plain rule: by few rows, or by several spans taken as one."""
    return candidate.span.variants > 1 or candidate.log10_p > np.log10(P)


def _exact(candidate: Candidate) -> bool:
    """Whether payload and trigger stand in the same rows but for a few, by the plain rule: what is asked of a payload without a word."""
    together = candidate.association.inside
    beside = max(candidate.association.everywhere, len(candidate.span.rows)) - together
    return not _doubtful(candidate) and beside <= BARE * together


def _worded(payload: str) -> bool:
    """Whether the payload has a word: signs and numbers alone recur in formats and tables ("= $<<", "*.2")."""
    return any(len(word) > 2 and word.isalpha() for word in WORD.findall(payload))


def _enough_of_few(candidate: Candidate) -> bool:
    """Few rows cannot have a small p; a long payload that recurs word for word behind one simple trigger makes up for it."""
    span, triggers = candidate.span, candidate.association.triggers
    simple = (
        len(triggers) <= 2 and all(len(trigger.patterns) == 1 for trigger in triggers) and candidate.association.inside == len(span.rows)
    )
    return simple and span.surprise >= FEW_SURPRISE and _payload_nats(span) >= FEW_NATS and candidate.log10_p <= np.log10(FEW_P)
