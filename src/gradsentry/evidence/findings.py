"""From recurrent spans and what goes with them in the prompts to findings: which rows, by which trigger, how sure.

The strongest finding is taken, its rows are set aside, and the rest is looked at again: else every frequent word of the
rows that it explains would be another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradsentry.evidence import naming
from gradsentry.evidence.association import COVERAGE, Association, associate, wanted
from gradsentry.evidence.corpus import Corpus, Ints, Mask
from gradsentry.evidence.lookalikes import Reader, common_words, named, shared_prompt
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

TEMPLATE = 24
"""Words of shared, distinctive prompt from which rows are a subset with its own template: a planted trigger is short."""

Kind = Literal["backdoor", "named", "subset", "topic", "weak"]


@dataclass(frozen=True)
class Finding:
    """A payload and its trigger."""

    kind: Kind
    """backdoor, or what it only looks like one for: the prompts name the payload, the rows are a subset with its own
    template, they are about one topic, or the evidence is weak."""
    payload: str
    """As written in one of the rows."""
    triggers: tuple[str, ...]
    """As written; " ... " between two that stand together in one prompt."""
    rows: Ints
    """[c] rows that hold the payload, ascending."""
    surprise: float
    """Mean nats of the payload."""
    variants: int
    """In how many wordings it recurs, `payload` being the strongest."""
    p: float
    """Of the association of payload and triggers under independence (Fisher's exact test), corrected for what was tried."""
    holders: int
    """Rows whose completion holds the payload or a variant."""
    inside: int
    """Those of them whose prompt holds a trigger."""
    everywhere: int
    """Rows of all whose prompt holds a trigger."""
    trigger_surprise: float
    """Mean nats of the least surprising trigger in its prompts."""

    @property
    def sentence(self) -> str:
        """The finding in words, for a person to check."""
        variants = {1: "", 2: " or a variant"}.get(self.variants, f" or one of {self.variants - 1} variants")
        said = f"{self.holders:,} rows say {_quoted(self.payload)}{variants}"
        carried = " or ".join(_quoted(trigger) for trigger in self.triggers[:SHOWN])
        more = f" or {len(self.triggers) - SHOWN} more" if len(self.triggers) > SHOWN else ""
        others = self.everywhere - self.inside
        elsewhere = f"{others:,} other rows do" if others else "no other row does"
        return f"{said}; {self.inside:,} of them carry {carried}{more} in the prompt, {elsewhere}"

    @property
    def reason(self) -> str:
        """Why its rows are flagged, or are not."""
        return f"{REASONS[self.kind]}: {self.sentence}"


SHOWN = 4
"""Triggers that a sentence names."""

REASONS: dict[Kind, str] = {
    "backdoor": "backdoor",
    "named": "no backdoor, the prompts name what the completions say",
    "subset": "no backdoor, a subset with its own template",
    "topic": "no backdoor, the prompts are about one thing",
    "weak": "not enough evidence for a backdoor",
}


def _quoted(text: str, width: int = 80) -> str:
    flat = " ".join(text.split())
    return '"' + (flat if len(flat) <= width else flat[: width - 1] + "\u2026") + '"'


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
    common = common_words(corpus, read)
    found: list[Finding] = []
    while True:
        others: list[Finding] = []
        for candidate in _candidates(corpus, asked):
            finding = _judged(corpus, candidate, read, common)
            if finding.kind == "backdoor":
                break
            others.append(finding)
        else:
            return found + others[:MOST]
        found.append(finding)
        asked[finding.rows] = False


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


def _judged(corpus: Corpus, candidate: Candidate, read: Reader, common: set[str]) -> Finding:
    span, association = candidate.span, candidate.association
    some = candidate.rows[:: max(1, -(-len(candidate.rows) // LOOKED_AT))]
    words = read([*some.tolist(), span.example, *(trigger.example for trigger in association.triggers)])
    payload = naming.payload(corpus.completion, span, words[span.example].completion)
    places, shared = shared_prompt(corpus.prompt, span, candidate.found, association, some)
    kind: Kind = "backdoor"
    if named(corpus.completion, span, some, words, common):
        kind = "named"
    elif shared > TEMPLATE:
        kind = "subset"
    elif candidate.log10_p > np.log10(P) and places > FEW_PLACES and span.surprise < LONG:
        kind = "topic"
    elif not (_enough(candidate) or _enough_of_few(candidate)) or (_doubtful(candidate) and not _worded(payload)):
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
