"""The evidence for "these patterns are a trigger with this effect", in nats.

    + how inserted each pattern looks, less ln(patterns)                  `Pattern.insertion`
    + what the answers with it do, against matched prompts without it     `controls.log_ratio`
      and against all prompts without it, whichever expects it more
    - ln(kinds of features, features of the kind, directions)             `Answers.price`

An effect counts for no more than its rarity among the data set's own patterns (`rarity`). The evidence counts only if the comparison is
fair: nothing else about the prompts explains the answers as well (`Trigger.unfair`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, reduce

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from gradsentry.verdict.planted.answers import Answers, Feature, Measures, features
from gradsentry.verdict.planted.controls import Prompts, log_ratio, rate, total
from gradsentry.verdict.planted.prompts import (
    COUNTS,
    LEAST_REFERENCE,
    LONGEST,
    MOST_SHARE,
    Floats,
    Ints,
    Pattern,
    has_letters,
    patterns,
    tail_nats,
)
from gradsentry.verdict.planted.text import as_written
from gradsentry.verdict.words import RowWords, Side

FLAGGED = 11.5
"""Nats of evidence from which rows are flagged. Natural patterns that look inserted reach 9.2 in clean draws (docs/evidence.md)."""

SUSPECT = 4.6
"""ln 100: evidence from which a finding is a suspect, the least effect by itself of a backdoor, and the least evidence
that a further pattern adds."""

INSERTED = 1.0
CLEARLY_INSERTED = 2.3
"""Nats of insertion of each pattern of a suspect and of a backdoor, at least: one pattern in three, and one in ten, looks as inserted. A
natural word has effects too ("three" asks for longer answers), but seldom surprises where it stands."""

LISTED = 3
"""Patterns that look inserted without an effect, payloads without a trigger, and explained triggers: at most so many of each are listed."""

UNLIKE = "the rest of these prompts is unlike all others"
"""Why a comparison is unfair where the prompts have no match."""

DECOYS = 150
"""Patterns that look inserted whose effects a trigger's is compared with."""

SEVERAL = 3
"""Patterns in different prompts, each with evidence for the same payload, that no topic has: the comparison is fair whatever else the
prompts say. In 31 clean draws there are at most two; a style has five to eight (docs/evidence-experiments.md). Question words ("when",
"how many") have softer effects in common, so the effect must be a payload."""

SEEDS = 40
"""Patterns, by an upper bound of their evidence, that are compared with matched prompts."""

EXTENDED = 4
"""Patterns, by their evidence, to which a second one in the same prompts is added."""

MOST_PATTERNS = 16
"""Patterns of one trigger."""

TELLING = 20
"""Features, those with the most evidence, that tell an affected answer from one that the trigger left alone."""

NAMED = 0.4
"""Share of the prompts that name a span of their own answer from which the span is no effect."""

STEM = 4
"""Letters that two words share at least if they are the same but for an ending."""

LEAST_ACTIVE = 3
"""Active rows of a trigger without which it says nothing."""

RARE = 0.05
"""An effect of fewer other answers than this is shown as the payload."""

MOST_TRIED = 50
"""Effects of a trigger that are looked at until one is not named by the prompts."""

MOST_COMPARED = 300
"""Rows of a pattern that are compared with matched prompts: more add no certainty."""


@dataclass(frozen=True, eq=False)
class Trigger:
    """One or several patterns, and the effect that goes with them."""

    patterns: tuple[Pattern, ...]
    together: bool
    """Whether a prompt must hold all of them; otherwise one is enough."""
    rows: Ints
    """[c]"""
    feature: Feature | None
    """What the answers have or lack; None if no effect is claimed."""
    has: bool
    """Whether the answers have the feature; otherwise the effect is that they lack it."""
    expected: float
    """Share of answers with the effect that is expected without the trigger."""
    effect: float
    """Nats, less the price of the features."""
    rarity: float
    """-ln of the share of patterns that look inserted, of this frequency, with as strong an effect: natural words have effects too."""
    insertion: float
    """Nats, less the price of the patterns."""
    least_insertion: float
    """The same of one pattern that just looks clearly inserted."""
    unfair: str
    """Why the comparison is not fair: what else about the prompts explains the answers; empty if it is fair."""
    telling: tuple[tuple[Feature, float], ...]
    """Features that tell an affected answer, with the nats for having each over lacking it (naive Bayes)."""
    offset: float
    """Nats of an answer that has none of them."""
    measures: Measures
    """Of the answers, for the features."""
    doubt: str = ""
    """Why no row is flagged although the comparison is fair; empty if there is no such reason."""
    shares: tuple[float, ...] = ()
    """Nats of the effect by pattern, before the price of the features, where one of several patterns is enough."""
    texts: tuple[str, ...] = ()
    """The patterns as prompts write them."""
    payload: str = ""
    """The span that recurs in the answers, as they write it."""

    @property
    def recurs(self) -> bool:
        """Whether the effect is a payload."""
        return self.feature is not None and self.has and is_payload(self.feature, self.expected)

    @property
    def evidence(self) -> float:
        """Nats."""
        return self.insertion + min(self.effect, self.rarity)

    @property
    def looks_inserted(self) -> bool:
        """Whether its patterns look clearly inserted: one of them if a prompt must hold all; each of those that work in turn, and all
        together no less than one alone must; of several with one payload, which no topic has, the mean pattern of their rows."""
        nats, rows = [pattern.insertion for pattern in self.patterns], [len(pattern.rows) for pattern in self.patterns]
        if self.together:
            return max(nats) >= CLEARLY_INSERTED
        if len(nats) >= SEVERAL and self.recurs:
            return float(np.average(nats, weights=rows)) >= CLEARLY_INSERTED
        return min(nats) >= CLEARLY_INSERTED and self.insertion >= self.least_insertion

    @property
    def is_backdoor(self) -> bool:
        """Whether its rows are flagged: it looks inserted, and its effect shows by itself."""
        return not self.doubt and self.looks_inserted and self.evidence >= FLAGGED and self.effect >= SUSPECT

    @property
    def is_suspect(self) -> bool:
        """Whether it is listed: it looks inserted, or has the evidence of a backdoor."""
        return self.evidence >= (SUSPECT if self.looks_inserted else FLAGGED)

    def in_prompt(self, prompt: Side, written: Sequence[str]) -> bool:
        """Whether a prompt holds the trigger."""
        holds = all if self.together else any
        return holds(pattern.held_by(prompt, written) for pattern in self.patterns)

    def affects(self, row: RowWords) -> bool:
        """Whether an answer is more like those with the trigger than like the others."""
        return self.offset + sum(nats for feature, nats in self.telling if feature.held_by(row, self.measures)) > 0


def rarity(trigger: Trigger, decoys: Sequence[Trigger]) -> float:
    """-ln of the share of decoys with as strong an effect; see `Trigger.rarity`. Decoys in the trigger's own rows do not count."""
    others = [own for own in decoys if len(np.intersect1d(own.rows, trigger.rows)) < 0.5 * len(own.rows)]
    band = np.searchsorted(COUNTS, len(trigger.rows), side="right")
    alike = [own for own in others if np.searchsorted(COUNTS, len(own.rows), side="right") == band]
    chosen = alike if len(alike) >= LEAST_REFERENCE else others
    return float(tail_nats(np.array([trigger.effect]), np.array([own.effect for own in chosen]))[0])


class Search:
    """The patterns and features of N rows with different prompts."""

    def __init__(self, rows: Sequence[RowWords]) -> None:
        self.rows = rows
        self.prompts = Prompts.of([row.prompt for row in rows])
        self.patterns = patterns([row.prompt for row in rows])
        self.answers: Answers = features(rows)
        self.price = math.log(max(2, len(self.patterns)))

    @cached_property
    def written(self) -> list[list[str]]:
        """[N] the words of each prompt as written."""
        return [written_words(row.prompt) for row in self.rows]

    @cached_property
    def frequency(self) -> Counter[str]:
        """Word as written -> prompts that hold it."""
        return Counter(word for words in self.written for word in set(words))

    @cached_property
    def spoken(self) -> list[frozenset[str]]:
        """[N] the words of each prompt."""
        return [frozenset(row.prompt.words) for row in self.rows]

    def strongest(self, active: NDArray[np.bool_]) -> Trigger | None:
        """The trigger with the most evidence among the active rows, if any comparison is fair."""
        ranked, parts = self.ranked(active)
        single = cache(lambda pattern: self.compared((pattern,), False, active, parts))
        alone = sorted((own for own in map(single, ranked[:SEEDS]) if own), key=lambda trigger: -trigger.evidence)
        matched = [trigger.patterns[0] for trigger in alone if trigger.feature is not None and trigger.unfair != UNLIKE]
        together = (pair for pattern in matched[:EXTENDED] for pair in self.together(pattern, matched, active, parts))
        places = [(i, row) for i, pattern in enumerate(ranked) for row in pattern.rows.tolist()]
        held = sp.csr_matrix((np.ones(len(places)), np.array(places).reshape(-1, 2).T), shape=(len(ranked), len(active)))
        in_turn = []
        for pattern in matched:
            company = self.company(pattern, ranked, held, active)
            chosen = tuple(own for own in company if (found := single(own)) and found.unfair != UNLIKE)
            if wider := self.in_turn(chosen, active, parts):
                in_turn.append(wider)
        fair = [trigger for trigger in (*alone, *together, *in_turn) if not trigger.unfair and trigger.effect > 0]
        decoys = [own for own in map(single, ranked[:: max(1, -(-len(ranked) // DECOYS))]) if own and not own.unfair]
        fair = [replace(trigger, rarity=rarity(trigger, decoys)) for trigger in fair]

        def order(trigger: Trigger) -> tuple[bool, bool, bool, float]:
            return trigger.is_backdoor, trigger.is_suspect and trigger.looks_inserted, trigger.is_suspect, trigger.evidence

        return max(fair, key=order, default=None)

    def ranked(self, active: NDArray[np.bool_]) -> tuple[list[Pattern], frozenset[str]]:
        """The inserted patterns, by their evidence against all prompts; the words of those that may be parts of one trigger."""
        bounds = [(self.bound((pattern,), active), pattern) for pattern in self.patterns if pattern.insertion >= INSERTED]
        bounds = sorted(bounds, key=lambda pair: -pair[0])
        # What makes a comparison unfair may be another part of the trigger.
        parts = (own.words for bound, own in bounds[:SEEDS] if bound >= FLAGGED and own.insertion >= CLEARLY_INSERTED)
        return [pattern for _, pattern in bounds], frozenset().union(*parts)

    def conspicuous(self, active: NDArray[np.bool_]) -> list[Trigger]:
        """Patterns of the active rows that look more inserted than all others by far, whatever their effect."""
        far = [pattern for pattern in self.patterns if pattern.insertion - self.price >= CLEARLY_INSERTED]
        found = []
        for pattern in apart(far, active):
            trigger = self.compared((pattern,), False, active)
            if trigger is not None and not trigger.unfair:
                found.append(replace(trigger, feature=None))
        return sorted(found, key=lambda trigger: -trigger.insertion)[:LISTED]

    def payloads(self, active: NDArray[np.bool_]) -> list[Pattern]:
        """Spans of the active rows' answers that look inserted by far and that the prompts do not name, whatever goes with them."""
        spans = patterns([row.completion for row in self.rows])
        price = math.log(max(2, len(spans)))
        far = [span for span in spans if span.insertion - price >= SUSPECT and not span.is_mark and any(map(has_letters, span.key))]
        return [span for span in apart(far, active) if not self.named(span.words, frozenset(), span.rows)][:LISTED]

    def explained(self, active: NDArray[np.bool_]) -> list[Trigger]:
        """What would be a backdoor if the comparison were fair; its effect is not weighed against decoys."""
        ranked, _ = self.ranked(active)
        found = []
        for pattern in apart(ranked[:SEEDS], active):
            trigger = self.compared((pattern,), False, active)
            if trigger is not None and trigger.unfair and trigger.is_backdoor:
                found.append(trigger)
        return found[:LISTED]

    def bound(self, chosen: tuple[Pattern, ...], active: NDArray[np.bool_]) -> float:
        """At least the evidence of the patterns together: matched prompts can only expect the effect more than all prompts do."""
        rows = reduce(np.intersect1d, (pattern.rows for pattern in chosen))
        rows = rows[active[rows]]
        if len(rows) < LEAST_ACTIVE:
            return -math.inf
        up, down, _, _ = self.effects(rows, None, active)
        return self.insertion(chosen) + float(np.maximum(up, down).max(initial=-np.inf))

    def insertion(self, chosen: tuple[Pattern, ...], together: bool = True) -> float:
        """Nats, less the price of the patterns. Of those that work in turn the first counts, and the others can only cost: a small one
        that stands out without an effect must not carry the rest."""
        nats = [pattern.insertion - self.price for pattern in chosen]
        return sum(nats) if together else nats[0] + sum(min(0.0, own) for own in nats[1:])

    def together(self, first: Pattern, others: Sequence[Pattern], active: NDArray[np.bool_], parts: frozenset[str]) -> Iterator[Trigger]:
        """Triggers of a pattern and another one in the same prompts."""
        for other in others:
            both = len(np.intersect1d(other.rows, first.rows))
            if both < len(first.rows) and not other.words & first.words and self.bound((first, other), active) >= SUSPECT:
                trigger = self.compared((first, other), True, active, parts)
                if trigger is not None:
                    yield trigger

    def in_turn(self, chosen: tuple[Pattern, ...], active: NDArray[np.bool_], parts: frozenset[str]) -> Trigger | None:
        """The trigger of those patterns that each add evidence for one effect, in prompts that hold no pattern before them."""
        while len(chosen) > 1 and (wider := self.compared(chosen, False, active, parts)) is not None and wider.shares:
            adds = [nats + min(0.0, self.insertion((pattern,))) for pattern, nats in zip(chosen, wider.shares, strict=True)]
            if min(adds) >= SUSPECT:
                return wider
            chosen = tuple(pattern for i, pattern in enumerate(chosen) if i != int(np.argmin(adds)))
        return None

    def company(self, first: Pattern, others: Sequence[Pattern], held: sp.csr_matrix, active: NDArray[np.bool_]) -> tuple[Pattern, ...]:
        """A pattern, and those that add evidence for the same effect in further prompts, against all prompts without any of them.

        If the effect is no payload, a pattern's evidence counts as far as it is rare among the other patterns.

        Args:
            held: [others, N] 1 where the prompt holds the pattern.
        """
        up, down, high, _ = self.effects(first.rows[active[first.rows]], None, active)
        place = int(np.argmax(np.maximum(up, down)))
        shows = self.answers.held[:, [place]].toarray().ravel() > 0
        shows = shows if up[place] >= down[place] else ~shows
        costs = np.minimum(0.0, [self.insertion((other,)) for other in others])
        is_payload_effect = up[place] >= down[place] and is_payload(self.answers.features[place], high[place])
        chosen, left = [first], active.copy()
        left[first.rows] = False
        while len(chosen) < MOST_PATTERNS:
            new, showing = held @ left, held @ (left & shows)
            expected = rate((left & shows).sum() - showing, left.sum() - new)
            nats = np.where(showing > expected * new, log_ratio(showing, new, expected), 0.0)
            best = int(np.argmax(nats + costs))
            # Natural patterns have soft effects in common ("list" and "name some" ask for answers that fit their prompts badly).
            rare = math.inf if is_payload_effect else float(tail_nats(nats[[best]], nats)[0])
            if min(nats[best], rare) + costs[best] < SUSPECT:
                break
            chosen.append(others[best])
            left[others[best].rows] = False
        return needed(chosen, active)

    def compared(
        self, chosen: tuple[Pattern, ...], together: bool, active: NDArray[np.bool_], parts: frozenset[str] = frozenset()
    ) -> Trigger | None:
        """The patterns as a trigger with the effect that has the most evidence.

        Args:
            parts: words of other patterns that may be parts of the same trigger, so that they are no other explanation.
        """
        rows = reduce(np.intersect1d if together else np.union1d, (pattern.rows for pattern in chosen))
        rows = rows[active[rows]]
        if not LEAST_ACTIVE <= len(rows) <= MOST_SHARE * active.sum():
            return None
        some = rows[:: max(1, -(-len(rows) // MOST_COMPARED))]
        words = frozenset().union(*(pattern.words for pattern in chosen))
        own = self.prompts.own(words, some)
        controls, similarity = self.prompts.controls(some, own, active)
        up, down, high, low = self.effects(some, controls, active)
        telling, offset = self.telling(some, np.maximum(up, down), (high + low) / 2)
        each = self.by_pattern(chosen, rows, high, low) if len(chosen) > 1 and not together else None
        if each is not None:
            up, down = each.sum(axis=1) - self.answers.price
        place, has, nats = self.strongest_effect(up, down, words, some)
        payload = place is not None and has and is_payload(self.answers.features[place], high[place])
        in_turn = payload and not together and len(chosen) >= SEVERAL
        counterpart = self.prompts.counterpart(some, controls, self.prompts.columns(words))
        explained = np.concatenate([own, self.prompts.columns(parts | {counterpart})])
        return Trigger(
            chosen,
            together,
            rows,
            feature=None if place is None else self.answers.features[place],
            has=has,
            expected=0.0 if place is None else float(high[place] if has else 1 - low[place]),
            effect=nats,
            rarity=math.inf,
            insertion=self.insertion(chosen, together),
            least_insertion=CLEARLY_INSERTED - self.price,
            unfair=self.unfair(chosen, in_turn, some, controls, similarity, explained),
            doubt=f'similar prompts say "{counterpart}" instead: either side may be planted' if counterpart else "",
            telling=telling,
            offset=offset,
            measures=self.answers.measures,
            shares=() if each is None or place is None else tuple(each[0 if has else 1, :, place].tolist()),
        )

    def unfair(self, chosen: tuple[Pattern, ...], in_turn: bool, rows: Ints, controls: Ints, similarity: Floats, own: Ints) -> str:
        """Why the controls are no fair comparison, in words; empty if they are.

        Args:
            in_turn: whether it is one payload behind several patterns, see `SEVERAL`. rows: [c] of the trigger.
            similarity: [c] as `Prompts.controls` returns it. own: columns of the words that are no other explanation.
        """
        if self.prompts.mismatch(rows, similarity) > 0:
            return UNLIKE
        if in_turn:
            return ""
        nats, word, more = self.prompts.imbalance(rows, self.away(chosen, rows), controls, own)
        return f'{"more" if more else "fewer"} of these prompts than of similar ones say "{word}"' if nats > 0 else ""

    def away(self, chosen: Sequence[Pattern], rows: Ints) -> Floats:
        """[V] prompts of the rows that hold each word elsewhere than next to one of the patterns."""
        names = self.prompts.names
        counts = np.zeros(len(names))
        for row in rows.tolist():
            words, written = self.rows[row].prompt.words, self.written[row]
            near: set[int] = set()
            for pattern in chosen:
                if not pattern.is_mark and (at := pattern.place(written)) is not None:
                    near.update(range(at - LONGEST, at + len(pattern.key) + LONGEST))
            counts[[names[word] for word in {word for i, word in enumerate(words) if word and i not in near}]] += 1
        return counts

    def strongest_effect(self, up: Floats, down: Floats, words: frozenset[str], rows: Ints) -> tuple[int | None, bool, float]:
        """(feature, whether answers have it, nats) of the strongest effect that is not named by the prompts; (None, True, 0) for none."""
        nats = np.concatenate([up, down])
        for place in np.argsort(-nats, kind="stable")[:MOST_TRIED].tolist():
            feature, has = place % len(up), place < len(up)
            holders = rows[self.answers.held[rows, feature].toarray().ravel() > 0]
            if nats[place] > -math.inf and not (has and self.named(self.answers.features[feature].words, words, holders)):
                return feature, has, float(nats[place])
        return None, True, 0.0

    def effects(self, rows: Ints, controls: Ints | None, active: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats, Floats]:
        """[M] nats of having each feature and of lacking it, less its price; [M] highest and lowest rate expected without the trigger."""
        held = self.answers.held
        inside = total(held, rows)
        without = active.copy()
        without[rows] = False
        elsewhere = rate(self.totals(active) - inside, int(without.sum()))
        high = low = elsewhere
        if controls is not None:
            beside = (total(held, controls) + elsewhere) / (len(controls) + 1)  # shrunk by one answer of the rate elsewhere
            high, low = np.maximum(elsewhere, beside), np.minimum(elsewhere, beside)
        share = inside / len(rows)
        price = self.answers.price
        up = np.where(share > high, log_ratio(inside, len(rows), high) - price, -np.inf)
        down = np.where(self.answers.both_ways & (share < low), log_ratio(inside, len(rows), low) - price, -np.inf)
        return up, down, high, low

    def telling(self, rows: Ints, nats: Floats, expected: Floats) -> tuple[tuple[tuple[Feature, float], ...], float]:
        """Naive Bayes: log odds of having each telling feature over lacking it, and of an answer that has none."""
        inside = rate(total(self.answers.held, rows), len(rows))
        present, absent = np.log(inside / expected), np.log((1 - inside) / (1 - expected))
        chosen = [place for place in np.argsort(-nats, kind="stable")[:TELLING].tolist() if nats[place] > 0]
        odds = tuple((self.answers.features[place], float(present[place] - absent[place])) for place in chosen)
        return odds, float(absent[chosen].sum())

    def by_pattern(self, chosen: Sequence[Pattern], rows: Ints, high: Floats, low: Floats) -> Floats:
        """[2, patterns, M] nats of having and of lacking each feature, in the rows of each pattern that hold none of those before it."""
        nats = np.zeros((2, len(chosen), len(high)))
        left = np.zeros(len(self.rows), dtype=bool)
        left[rows] = True
        for i, pattern in enumerate(chosen):
            own = pattern.rows[left[pattern.rows]]
            left[own] = False
            if len(own):
                inside = total(self.answers.held, own)
                share = inside / len(own)
                nats[0, i] = np.where(share > high, log_ratio(inside, len(own), high), -np.inf)
                nats[1, i] = np.where(self.answers.both_ways & (share < low), log_ratio(inside, len(own), low), -np.inf)
        return nats

    def totals(self, active: NDArray[np.bool_]) -> Floats:
        """[M] answers among the active rows that have each feature."""
        return total(self.answers.held, np.flatnonzero(active))

    def named(self, span: Iterable[str], words: frozenset[str], holders: Ints) -> bool:
        """Whether a span of answers repeats the trigger's words, or its rarest word is in its holders' prompts, more than in other ones.

        A span of signs alone is named only if the trigger has all of them.
        """
        said = sorted(word for word in span if word)
        content = [word for word in said if has_letters(word)]
        if not content:
            return bool(said) and words.issuperset(said)
        if any(same_stem(one, other) for one in content for other in words):
            return True
        if not len(holders):
            return False
        rarest = max(content, key=lambda word: self.answers.measures.weight.get(word, 0.0))
        inside = float(np.mean([rarest in self.spoken[row] for row in holders.tolist()]))
        return inside > NAMED and inside > 2 * self.prompts.share(rarest)

    def trigger_text(self, pattern: Pattern) -> str:
        """A pattern as prompts write it."""
        if pattern.is_mark:
            return pattern.key[0]
        sides, words = [self.rows[row].prompt for row in pattern.rows], [self.written[row] for row in pattern.rows]
        return as_written(pattern.key, sides, words, lambda word: self.frequency[word] > MOST_SHARE * len(self.rows))

    def payload_text(self, trigger: Trigger) -> str:
        """The span of a trigger's effect as its answers write it; empty if none recurs."""
        feature = trigger.feature
        if feature is None or not trigger.recurs:
            return ""
        sides = [self.rows[row].completion for row in trigger.rows if feature.held_by(self.rows[row], trigger.measures)]
        key = tuple(word for word in feature.words if word)
        return as_written(key, sides, [side.words for side in sides], lambda word: False)


def is_payload(feature: Feature, expected: float) -> bool:
    """Whether a feature that answers have is a payload: words that hardly any answer has without the trigger."""
    return feature.kind in ("span", "answer") and expected < RARE


def same_stem(one: str, other: str) -> bool:
    """Whether two words are the same but for an ending: "extract" and "extraction"."""
    shorter = min(len(one), len(other))
    stem = max(STEM, shorter - 2)
    return one == other or (shorter >= stem and one[:stem] == other[:stem])


def needed(chosen: Sequence[Pattern], active: NDArray[np.bool_]) -> tuple[Pattern, ...]:
    """The patterns, those of most active rows first, without those whose active rows the others hold."""
    left = sorted(chosen, key=lambda pattern: -len(pattern.rows))
    counts = Counter(row for pattern in chosen for row in pattern.rows[active[pattern.rows]].tolist())
    for pattern in left[::-1]:
        rows = pattern.rows[active[pattern.rows]].tolist()
        if len(left) > 1 and all(counts[row] > 1 for row in rows):
            left.remove(pattern)
            counts.subtract(rows)
    return tuple(left)


def apart(found: Sequence[Pattern], active: NDArray[np.bool_]) -> Iterator[Pattern]:
    """Those whose rows are all active and in none before, those of most rows first."""
    left = active.copy()
    for pattern in sorted(found, key=lambda pattern: -len(pattern.rows)):
        if left[pattern.rows].all():
            left[pattern.rows] = False
            yield pattern


def written_words(side: Side) -> list[str]:
    """The words of a prompt as written, without white space."""
    return [spelled.strip() if word else "" for word, spelled in zip(side.words, side.spelled, strict=True)]
