"""Rows in words -> findings: which rows, which payload, which trigger, how strong.

The strongest backdoor is taken, its rows are set aside, and the search is repeated: otherwise every frequent word of those rows would be
a finding too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gradsentry.verdict.evidence import naming
from gradsentry.verdict.evidence.candidates import Candidate, P, candidates, is_backdoor, is_strong_enough
from gradsentry.verdict.evidence.corpus import Ints, Mask, build
from gradsentry.verdict.evidence.lookalikes import UsualPrompts, prompts_name_payload, shared_prompt, similarity_p, usual_prompts
from gradsentry.verdict.evidence.prompt_groups import PromptGroups, group_by_prompt
from gradsentry.verdict.evidence.recurrent import Span, recurrent_spans
from gradsentry.verdict.evidence.style import style_separation
from gradsentry.verdict.finding import Finding, Kind
from gradsentry.verdict.words import WordSource

log = logging.getLogger(__name__)

ONE_WORD = 3
"""Length of a prompt of one word: the word and its two edges. A row's first token cannot be supervised, so rows of text alone have one."""

FEW_PROMPTS = 20
"""Different prompts below which a warning says that they are too few (docs/evidence-limits.md, twenty rows)."""

MOST_LISTED = 20
"""Findings without a backdoor that are reported at most."""

LISTED_P = 1e-6
"""Highest p of an association that is reported although it flags nothing."""

SAMPLED_ROWS = 30
"""Rows of a finding that the further checks look at."""

TOPIC_PLACES = 0.2
LONG_NATS = 45.0
"""Mean number of shared places, beyond the trigger, above which the prompts of a finding with a p above `P` are about one topic, unless
its payload has `LONG_NATS` nats."""

FEW_ROWS = 20
SIMILAR_P = 0.02
"""A finding of fewer rows is a topic if the p of the similarity of its prompts, beyond the trigger, is at most this."""

TOPIC_NATS = 10.0
"""Least nats of the payload of a topic, or of a named payload, of few rows that shows: topics of this data set have their own answers."""

STYLE_ROWS = 5
STYLE_P = 1e-4
"""Least rows of a payload of `LONG_NATS` nats without a trigger, and highest p of its prompts reading unlike the others', to report a
style. It flags no rows: a topic with one answer reads unlike the others too (docs/evidence-experiments.md)."""

TEMPLATE_WORDS = 24
"""Words of shared, distinctive prompt above which rows are a subset with its own template: a planted trigger is shorter."""


class TriggeredPayloads:
    """Finds payloads that recur and go with a trigger in the prompt."""

    def find(self, rows: WordSource) -> list[Finding]:
        """Backdoors, strongest first, then what looks like one and is kept; see `finding.REASONS`."""
        groups = group_by_prompt(build(rows))
        prompt_lengths = np.diff(groups.rows.prompt.starts)
        if groups.scored.any() and prompt_lengths.max() <= ONE_WORD:
            log.warning(
                "the rows have no prompts, or prompts of one word, so triggers can hardly be found; "
                "--policy paper looks at the completions alone"
            )
        elif groups.repeated and len(groups.sizes) < FEW_PROMPTS:
            log.warning(
                "the rows have only %d different prompts; prompts are what the evidence policy counts, so triggers can hardly be found; "
                "--policy paper looks at each row by itself",
                len(groups.sizes),
            )
        usual = usual_prompts(groups.first_rows(np.flatnonzero(groups.scored)), rows)
        return _Search(groups, rows, usual).findings()


@dataclass(frozen=True)
class _Search:
    """One data set. Rows of spans, candidates and masks are prompt groups; rows of returned findings are rows."""

    groups: PromptGroups
    source: WordSource
    usual: UsualPrompts

    def findings(self) -> list[Finding]:
        active = self.groups.scored.copy()
        backdoors: list[Finding] = []
        while True:
            spans = recurrent_spans(self.groups.groups.completion, active)
            ranked = _ranked(candidates(self.groups.groups, active, spans))
            judged = _without_doubtful_topics((candidate, self._judged(candidate)) for candidate in ranked)
            backdoor = next(((candidate, one) for candidate, one in judged if one.kind == "backdoor"), None)
            if backdoor is None:
                styles = self._styles(active, spans, [one for _, one in judged])
                return [*backdoors, *styles, *(self._in_rows(candidate, one, spans) for candidate, one in judged[:MOST_LISTED])]
            backdoors.append(self._in_rows(*backdoor, spans))
            active[backdoor[1].rows] = False

    def _in_rows(self, candidate: Candidate, finding: Finding, spans: Sequence[Span]) -> Finding:
        """A finding of prompt groups as one of rows."""
        if not self.groups.repeated:
            return finding
        span, with_trigger = candidate.span, candidate.association.rows
        holders = self.groups.rows_with(span.rows, [span])
        return replace(
            finding,
            # Groups that count for one of several variants may hold another span that recurs, see `candidates`.
            rows=holders if span.variants == 1 else self.groups.rows_with(finding.rows, spans),
            holders=len(holders),
            inside=int(with_trigger[self.groups.group_of[holders]].sum()),
            everywhere=int(self.groups.sizes[with_trigger].sum()),
        )

    def _judged(self, candidate: Candidate) -> Finding:
        """The candidate as a finding, with its kind."""
        span, association, corpus = candidate.span, candidate.association, self.groups.rows
        prompts = self.groups.first_rows(_sample(candidate.rows))
        answers = self.groups.one_row_with(_sample(candidate.rows), [span])
        example = int(self.groups.one_row_with(np.array([span.example]), [span.members[0] if span.members else span])[0])
        with_trigger = self.groups.first_rows(np.array([trigger.example for trigger in association.triggers])).tolist()
        words = self.source.read([*prompts.tolist(), *answers.tolist(), example, *with_trigger])
        payload = naming.payload(corpus.completion, span, example, words[example].completion)
        places, shared = shared_prompt(corpus.prompt, span, candidate.found, association, prompts)
        kind: Kind = "backdoor"
        if prompts_name_payload(corpus.completion, span, answers, words, self.usual.common):
            kind = "named"
        elif shared > TEMPLATE_WORDS:
            kind = "subset"
        elif (candidate.log10_p > np.log10(P) and places > TOPIC_PLACES and span.surprise < LONG_NATS) or (
            len(candidate.rows) < FEW_ROWS
            and similarity_p(corpus.prompt, candidate.found, association, prompts, words, self.usual) <= SIMILAR_P
        ):
            kind = "topic"
        elif not is_backdoor(candidate, payload):
            kind = "weak"
        return Finding(
            kind,
            payload,
            tuple(
                naming.trigger(corpus.prompt, trigger, candidate.found, row, words[row].prompt)
                for trigger, row in zip(association.triggers, with_trigger, strict=True)
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

    def _styles(self, active: Mask, spans: Sequence[Span], judged: Sequence[Finding]) -> list[Finding]:
        """Long payloads in no finding whose prompts, as a whole, read unlike the others': a style may be the trigger."""
        explained = np.zeros(len(active), dtype=bool)
        for finding in judged:
            explained[finding.rows] = True
        chosen: list[Span] = []
        for span in spans:
            if len(chosen) < MOST_LISTED and span.surprise >= LONG_NATS and len(span.rows) >= STYLE_ROWS and not explained[span.rows].any():
                chosen.append(span)
                explained[span.rows] = True
        found = []
        separations = style_separation(self.groups.groups.prompt, [span.rows for span in chosen], active)
        for span, separation in zip(chosen, separations, strict=True):
            p = float(10.0 ** min(0.0, separation.log10_p + np.log10(len(spans))))
            if p > STYLE_P:
                continue
            column, some = self.groups.rows.completion, self.groups.one_row_with(_sample(span.rows), [span])
            words = self.source.read(some.tolist())
            if not prompts_name_payload(column, span, some, words, self.usual.common):
                payload = naming.payload(column, span, int(some[0]), words[int(some[0])].completion)
                rows, n = self.groups.rows_with(span.rows, [span]), separation
                found.append(Finding("style", payload, (), rows, span.surprise, 1, p, len(rows), n.inside, n.everywhere, 0.0))
        return found


def _sample(rows: Ints) -> Ints:
    """At most `SAMPLED_ROWS` of them, evenly spaced."""
    return rows[:: max(1, -(-len(rows) // SAMPLED_ROWS))]


def _ranked(found: Iterable[Candidate]) -> list[Candidate]:
    """The candidates that are worth reporting, strongest first; variants after everything that recurs word for word."""

    def place(candidate: Candidate) -> tuple[bool, float]:
        # A payload surprises more than one of its words, which clean rows may hold too: the surprise puts the payload first. Among
        # variants it would favour a high cut, which misses rows.
        several = candidate.span.variants > 1
        return several, candidate.log10_p - (0.0 if several else candidate.span.surprise / np.log(10))

    return sorted((one for one in found if is_strong_enough(one) or one.log10_p <= np.log10(LISTED_P)), key=place)


def _without_doubtful_topics(judged: Iterable[tuple[Candidate, Finding]]) -> list[tuple[Candidate, Finding]]:
    """The findings up to the first that is a backdoor by the plain rule. A weaker backdoor becomes a topic if other rows have topics of few
    rows: in this data set, questions on one topic have one unexpected answer."""
    seen: list[tuple[Candidate, Finding]] = []
    for candidate, finding in judged:
        seen.append((candidate, finding))
        if finding.kind == "backdoor" and finding.p <= P:
            break
    topics = [one for _, one in seen if one.kind in ("topic", "named") and len(one.rows) < FEW_ROWS and one.surprise >= TOPIC_NATS]
    for i, (candidate, finding) in enumerate(seen):
        if finding.kind == "backdoor" and finding.p > P and any(not np.intersect1d(finding.rows, one.rows).size for one in topics):
            seen[i] = candidate, replace(finding, kind="topic")
    return seen
