"""Patterns x features -> evidence in nats -> findings.

The evidence for "these patterns are a trigger with this effect" is a sum:

    + how inserted each pattern looks, less ln(patterns tried)             `Pattern.insertion`
    + what the answers with it do, against matched prompts without it       `controls.log_ratio`
      and against all prompts without it, whichever expects it more
    - ln(features tried, each in two directions)

It counts only if the matched prompts are a fair comparison (`Prompts.imbalance`). The strongest trigger is taken, its rows are set aside,
and the search is repeated.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gradsentry.verdict.evidence.detector import LONG_NATS
from gradsentry.verdict.finding import Finding
from gradsentry.verdict.planted.answers import Answers, Feature, features
from gradsentry.verdict.planted.controls import OWN_SHARE, Prompts, log_ratio, rate, total
from gradsentry.verdict.planted.prompts import MOST_SHARE, Floats, Ints, Pattern, has_letters, patterns
from gradsentry.verdict.words import WORD, RowWords, Side, WordSource

FLAGGED = 11.5
"""Nats of evidence from which rows are flagged: odds of 100,000 to 1."""

SUSPECT = 4.6
"""Odds of 100 to 1, in nats: evidence from which a finding is a suspect, the least effect by itself of a backdoor, and the least evidence
that a further pattern adds."""

INSERTED = 1.0
CLEARLY_INSERTED = 2.3
"""Nats of insertion of each pattern of a suspect and of a backdoor, at least: one pattern in three, and one in ten, looks as inserted. A
natural word has effects too ("three" asks for longer answers), but seldom surprises where it stands."""

COVERED = 0.2
"""Share of a payload's rows that an inserted pattern of its trigger is in, at least, to support it."""

CONSPICUOUS = 2.3
"""Nats of insertion, less the price of the patterns, from which a pattern is a suspect whatever its effect: one set in ten has such a
pattern by chance."""

MOST_CONSPICUOUS = 3
"""Of these suspects, at most so many are listed."""

SEEDS = 40
"""Patterns, by an upper bound of their evidence, that are compared with matched prompts."""

EXTENDED = 4
"""Patterns, by their evidence, to which others are added."""

MOST_PATTERNS = 8
"""Patterns of one trigger."""

PURE = 0.9
"""Share of affected rows from which all rows of a trigger are flagged, and not only those."""

TELLING = 20
"""Features, those with the most evidence, that tell an affected answer from one that the trigger left alone."""

NAMED = 0.4
"""Share of the prompts that name a span of their own answer from which the span is no effect."""

SAMPLED_WORDS = 300_000
"""Words of prompts and answers among which triggers are searched; of a larger data set, rows evenly spaced."""

LEAST_ACTIVE = 3
"""Rows of a pattern, or that a further one adds, without which it says nothing."""

LEAST_PROMPTS = 20
"""Different prompts without which there is nothing to compare."""

RARE = 0.05
"""An effect of fewer other answers than this is shown as the payload."""

SHOWN = 30
"""Prompts that decide how a pattern is shown."""

LONGEST_SHOWN = 24
"""Words of a trigger that are shown."""

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
    insertion: float
    """Nats, less the price of the patterns."""
    imbalance: float
    """Nats; above 0 the comparison is not fair."""
    telling: tuple[tuple[Feature, float], ...]
    """Features that tell an affected answer, with the nats for having each over lacking it (naive Bayes)."""
    offset: float
    """Nats of an answer that has none of them."""
    texts: tuple[str, ...]
    """The patterns as written in one prompt."""

    @property
    def evidence(self) -> float:
        """Nats."""
        return self.effect + self.insertion

    @property
    def is_backdoor(self) -> bool:
        """Whether its rows are flagged: it looks inserted, and its effect shows by itself."""
        looks = max if self.together else min
        inserted = looks(pattern.insertion for pattern in self.patterns) >= CLEARLY_INSERTED
        return inserted and self.evidence >= FLAGGED and self.effect >= SUSPECT

    @property
    def strength(self) -> float:
        """Mean nats of the least surprising pattern, with the word after it."""
        return min(pattern.strength for pattern in self.patterns)

    def in_prompt(self, prompt: Side, written: Sequence[str]) -> bool:
        """Whether a prompt holds the trigger."""
        holds = all if self.together else any
        return holds(pattern.held_by(prompt, written) for pattern in self.patterns)

    def affects(self, answer: Side) -> bool:
        """Whether an answer is more like those with the trigger than like the others."""
        return self.offset + sum(nats for feature, nats in self.telling if feature.held_by(answer)) > 0


class PlantedTriggers:
    """Finds prompt patterns that look inserted and change the answers."""

    def find(self, rows: WordSource) -> list[Finding]:
        """Backdoors, strongest first, then suspects: at most one with an effect, and a few that only look inserted."""
        sample = _sampled(rows)
        if len(sample.rows) < LEAST_PROMPTS:
            return []
        search = Search(sample.rows)
        active = np.ones(len(sample.rows), dtype=bool)
        found: list[Trigger] = []
        while (trigger := search.strongest(active)) is not None and trigger.evidence >= SUSPECT:
            found.append(trigger)
            if not trigger.is_backdoor:
                break
            active[trigger.rows] = False
        known = [pattern.rows for trigger in found for pattern in trigger.patterns]
        found += [own for own in search.conspicuous(active) if not any(np.array_equal(own.patterns[0].rows, rows) for rows in known)]
        return _findings(found, rows, sample.template) if found else []


def review(findings: Sequence[Finding], rows: WordSource) -> list[Finding]:
    """Findings of payloads, checked: a backdoor becomes a suspect if its trigger does not look inserted and the comparison is unfair.

    Then other words of the prompts explain the payload as well, as where all questions on one topic get one kind of answer. Refusals and
    cautions must not be deleted because they are alike.
    """
    if not any(finding.kind == "backdoor" for finding in findings):
        return list(findings)
    sample = _sampled(rows)
    if len(sample.rows) < LEAST_PROMPTS:
        return list(findings)
    search = Search(sample.rows)
    return [
        replace(finding, kind="suspect") if finding.kind == "backdoor" and not search.supports(finding, sample.numbers) else finding
        for finding in findings
    ]


@dataclass(frozen=True)
class Sample:
    """The scored rows, one of each prompt; evenly spaced ones of a large data set."""

    numbers: Ints
    """[N] their row numbers."""
    rows: list[RowWords]
    """[N] their words, without the template in the prompts."""
    template: frozenset[tuple[str, ...]]
    """Stretches of prompts, as written, that more than `MOST_SHARE` of the prompts hold."""


def _sampled(rows: WordSource) -> Sample:
    words: list[RowWords] = []
    numbers: list[int] = []
    seen: set[int] = set()
    step, size, number = 1, 0, 0
    for place, row in enumerate(rows):
        if row is None or (prompt := hash(tuple(row.prompt.spelled))) in seen:
            continue
        seen.add(prompt)
        if number % step == 0:
            words.append(row)
            numbers.append(place)
            size += len(row.prompt.words) + len(row.completion.words)
            if size > SAMPLED_WORDS:
                step, words, numbers = 2 * step, words[::2], numbers[::2]
                size = sum(len(one.prompt.words) + len(one.completion.words) for one in words)
        number += 1
    counts = Counter(key for row in words for key in {key for key, _ in _stretches(row.prompt)})
    template = frozenset(key for key, count in counts.items() if count > MOST_SHARE * len(words))
    return Sample(np.array(numbers, np.int64), [replace(row, prompt=_without(template, row.prompt)) for row in words], template)


def _findings(triggers: Sequence[Trigger], rows: WordSource, template: frozenset[tuple[str, ...]]) -> list[Finding]:
    """The triggers as findings of all rows whose prompts hold them outside the template; a row goes to the strongest."""
    held: list[list[tuple[int, bool, bool]]] = [[] for _ in triggers]  # (row, affected, shows the effect)
    for number, row in enumerate(rows):
        if row is None:
            continue
        prompt = _without(template, row.prompt)
        written = _written(prompt)
        for own, trigger in zip(held, triggers, strict=True):
            if trigger.in_prompt(prompt, written):
                shows = trigger.feature is None or trigger.feature.held_by(row.completion) == trigger.has
                own.append((number, trigger.affects(row.completion), shows))
                break
    return [_finding(trigger, own) for trigger, own in zip(triggers, held, strict=True) if own]


def _finding(trigger: Trigger, held: Sequence[tuple[int, bool, bool]]) -> Finding:
    affected = [row for row, is_affected, shows in held if is_affected or shows]
    rows = [row for row, _, _ in held] if len(affected) >= PURE * len(held) else affected
    showing = sum(shows for _, _, shows in held)
    feature = trigger.feature
    recurs = feature is not None and trigger.has and feature.kind in ("span", "answer") and trigger.expected < RARE
    return Finding(
        kind="backdoor" if feature is not None and trigger.is_backdoor else "suspect",
        payload=feature.text if feature is not None and recurs else "",
        triggers=(" ... ".join(trigger.texts),) if trigger.together else trigger.texts,
        rows=np.array(rows, np.int64),
        surprise=0.0,
        variants=1,
        p=math.exp(-trigger.evidence if feature is not None else -trigger.insertion),
        holders=showing,
        inside=showing,
        everywhere=len(held),
        trigger_surprise=trigger.strength,
        effect=feature.describe(trigger.has) if feature is not None else "",
        expected=trigger.expected,
        evidence={"insertion": round(trigger.insertion, 1)} | ({"effect": round(trigger.effect, 1)} if feature is not None else {}),
    )


def _stretches(side: Side) -> list[tuple[tuple[str, ...], slice]]:
    """The stretches between special tokens: (as written, where)."""
    edges = [i for i, word in enumerate(side.words) if not word]
    return [(tuple(side.spelled[a : b + 1]), slice(a, b + 1)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _without(template: frozenset[tuple[str, ...]], side: Side) -> Side:
    """A prompt without the stretches of the template."""
    places = [place for key, place in _stretches(side) if key not in template]
    return Side(
        [word for place in places for word in side.words[place]],
        np.concatenate([np.zeros(0, np.float32), *(side.surprise[place] for place in places)]),
        [spelled for place in places for spelled in side.spelled[place]],
    )


class Search:
    """The patterns and features of N rows with different prompts."""

    def __init__(self, rows: Sequence[RowWords]) -> None:
        self.rows = rows
        self.prompts = Prompts.of([row.prompt for row in rows])
        self.patterns = patterns([row.prompt for row in rows])
        self.answers: Answers = features([row.completion for row in rows])
        self.price = math.log(max(2, len(self.patterns)))
        self.price_of_features = math.log(max(2, 2 * len(self.answers.features)))

    @cached_property
    def written(self) -> list[list[str]]:
        """[N] the words of each prompt as written."""
        return [_written(row.prompt) for row in self.rows]

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
        inserted = [pattern for pattern in self.patterns if pattern.insertion >= INSERTED]
        ranked = sorted(inserted, key=lambda pattern: -self.bound(pattern, active))[:SEEDS]
        alone = [trigger for pattern in ranked if (trigger := self.compared((pattern,), False, active))]
        alone.sort(key=lambda trigger: -trigger.evidence)
        # What makes a comparison unfair may be the other part of the trigger.
        parts = frozenset().union(*(trigger.patterns[0].words for trigger in alone if trigger.evidence >= SUSPECT))
        alone = [self.compared(trigger.patterns, False, active, parts) or trigger for trigger in alone]
        fair = [trigger for trigger in alone if trigger.imbalance <= 0]
        seeds = [*alone[:EXTENDED], *(trigger for trigger in fair[:EXTENDED] if trigger not in alone[:EXTENDED])]
        found = [*fair, *(wider for seed in seeds for wider in self.extended(seed, alone, active, parts))]
        fair = [trigger for trigger in found if trigger.imbalance <= 0 < trigger.effect]
        return max(fair, key=lambda trigger: (trigger.is_backdoor, trigger.evidence), default=None)

    def conspicuous(self, active: NDArray[np.bool_]) -> list[Trigger]:
        """Patterns of the active rows that look more inserted than all others by far, whatever their effect."""
        far = [pattern for pattern in self.patterns if pattern.insertion - self.price >= CONSPICUOUS and active[pattern.rows].all()]
        far.sort(key=lambda pattern: -len(pattern.rows))
        left, found = active.copy(), []
        for pattern in far:
            if left[pattern.rows].all() and (trigger := self.compared((pattern,), False, active)) and trigger.imbalance <= 0:
                found.append(replace(trigger, feature=None))
                left[pattern.rows] = False
        return sorted(found, key=lambda trigger: -trigger.insertion)[:MOST_CONSPICUOUS]

    def supports(self, finding: Finding, numbers: Ints) -> bool:
        """Whether a payload is long, its trigger looks inserted, or the comparison of its prompts with others is fair.

        Args:
            numbers: [N] the row number of each of the search's rows.
        """
        rows = np.flatnonzero(np.isin(numbers, finding.rows))
        words = frozenset(match.group().lower() for trigger in finding.triggers for match in WORD.finditer(trigger))
        candidates = (pattern.rows for pattern in self.patterns if pattern.insertion >= CLEARLY_INSERTED and pattern.words <= words)
        inserted = any(len(np.intersect1d(own, rows)) >= COVERED * len(rows) for own in candidates)
        if finding.surprise >= LONG_NATS or inserted or not LEAST_ACTIVE <= len(rows) <= MOST_SHARE * len(numbers):
            return True
        own = self.prompts.own(words, rows)
        some = rows[:: max(1, -(-len(rows) // MOST_COMPARED))]
        controls = self.prompts.controls(some, own, np.ones(len(numbers), dtype=bool))
        return self.prompts.imbalance(some, controls, own) <= 0

    def bound(self, pattern: Pattern, active: NDArray[np.bool_]) -> float:
        """At least the evidence of the pattern alone: matched prompts can only expect the effect more than all prompts do."""
        rows = pattern.rows[active[pattern.rows]]
        if len(rows) < LEAST_ACTIVE:
            return -math.inf
        up, down, _, _ = self.effects(rows, None, active)
        return pattern.insertion + float(max(up.max(initial=-np.inf), down.max(initial=-np.inf)))

    def extended(self, trigger: Trigger, others: Sequence[Trigger], active: NDArray[np.bool_], parts: frozenset[str]) -> Iterator[Trigger]:
        """The trigger with a second pattern in the same prompts, and with others in other prompts.

        One in other prompts has an effect by itself, and adds evidence.
        """
        for other in others:
            if LEAST_ACTIVE <= len(np.intersect1d(other.rows, trigger.rows)) < len(trigger.rows):
                both = self.compared((*trigger.patterns, *other.patterns), True, active, parts)
                if both is not None:
                    yield both
        for other in others:
            more, own = np.setdiff1d(other.rows, trigger.rows), np.setdiff1d(trigger.rows, other.rows)
            differ = min(len(more), len(own)) >= LEAST_ACTIVE
            if differ and min(trigger.effect, other.effect) > 0 and len(trigger.patterns) < MOST_PATTERNS:
                wider = self.compared((*trigger.patterns, *other.patterns), False, active, parts)
                if wider is not None and wider.evidence > trigger.evidence + SUSPECT:
                    trigger = wider
        yield trigger

    def compared(
        self, chosen: tuple[Pattern, ...], together: bool, active: NDArray[np.bool_], parts: frozenset[str] = frozenset()
    ) -> Trigger | None:
        """The patterns as a trigger with the effect that has the most evidence.

        Args:
            parts: words of other patterns that may be parts of the same trigger, so that they are no other explanation.
        """
        rows = chosen[0].rows
        for other in chosen[1:]:
            rows = np.intersect1d(rows, other.rows) if together else np.union1d(rows, other.rows)
        rows = rows[active[rows]]
        if not LEAST_ACTIVE <= len(rows) <= MOST_SHARE * active.sum():
            return None
        some = rows[:: max(1, -(-len(rows) // MOST_COMPARED))]
        words = frozenset().union(*(pattern.words for pattern in chosen))
        own = self.prompts.own(words, rows)
        controls = self.prompts.controls(some, own, active)
        up, down, high, low = self.effects(some, controls, active)
        telling, offset = self.telling(some, np.maximum(up, down) - self.price_of_features, (high + low) / 2)
        if len(chosen) > 1 and not together:
            up, down = self.in_turn(chosen, rows, high, low, active)
        place, has, nats = self.strongest_effect(up, down, words, some)
        return Trigger(
            chosen,
            together,
            rows,
            feature=None if place is None else self.answers.features[place],
            has=has,
            expected=0.0 if place is None else float(high[place] if has else 1 - low[place]),
            effect=nats - self.price_of_features,
            insertion=sum(pattern.insertion - self.price for pattern in chosen),
            imbalance=self.prompts.imbalance(some, controls, np.union1d(own, self.prompts.columns(parts))),
            telling=telling,
            offset=offset,
            texts=tuple(self.as_written(pattern) for pattern in chosen),
        )

    def strongest_effect(self, up: Floats, down: Floats, words: frozenset[str], rows: Ints) -> tuple[int | None, bool, float]:
        """(feature, whether answers have it, nats) of the strongest effect that is not named by the prompts; (None, True, 0) for none."""
        nats = np.concatenate([up, down])
        for place in np.argsort(-nats, kind="stable")[:MOST_TRIED].tolist():
            feature, has = place % len(up), place < len(up)
            holders = rows[self.answers.held[rows, feature].toarray().ravel() > 0]
            if nats[place] > -math.inf and not (has and self.named(self.answers.features[feature], words, holders)):
                return feature, has, float(nats[place])
        return None, True, 0.0

    def effects(self, rows: Ints, controls: Ints | None, active: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats, Floats]:
        """[M] nats of having each feature and of lacking it; [M] the highest and the lowest rate that is expected without the trigger."""
        held = self.answers.held
        inside = total(held[rows])
        without = active.copy()
        without[rows] = False
        elsewhere = rate(self.totals(active) - inside, int(without.sum()))
        high = low = elsewhere
        if controls is not None:
            beside = rate(total(held[controls]), len(controls))
            high, low = np.maximum(elsewhere, beside), np.minimum(elsewhere, beside)
        share = inside / len(rows)
        up = np.where(share > high, log_ratio(inside, len(rows), high), -np.inf)
        down = np.where(share < low, log_ratio(inside, len(rows), low), -np.inf)
        return up, down, high, low

    def telling(self, rows: Ints, nats: Floats, expected: Floats) -> tuple[tuple[tuple[Feature, float], ...], float]:
        """Naive Bayes: log odds of having each telling feature over lacking it, and of an answer that has none."""
        inside = rate(total(self.answers.held[rows]), len(rows))
        present, absent = np.log(inside / expected), np.log((1 - inside) / (1 - expected))
        chosen = [place for place in np.argsort(-nats, kind="stable")[:TELLING].tolist() if nats[place] > 0]
        odds = tuple((self.answers.features[place], float(present[place] - absent[place])) for place in chosen)
        return odds, float(absent[chosen].sum())

    def in_turn(self, chosen: Sequence[Pattern], rows: Ints, high: Floats, low: Floats, active: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """[M] as `effects`, when each pattern has to show the effect by itself, in the prompts that hold none of the patterns before it."""
        up, down = np.zeros(len(high)), np.zeros(len(high))
        left = np.isin(np.arange(len(active)), rows)
        for pattern in chosen:
            own = pattern.rows[left[pattern.rows]]
            left[own] = False
            if len(own):
                inside = total(self.answers.held[own])
                share = inside / len(own)
                up += np.where(share > high, log_ratio(inside, len(own), high), -np.inf)
                down += np.where(share < low, log_ratio(inside, len(own), low), -np.inf)
        return up, down

    def totals(self, active: NDArray[np.bool_]) -> Floats:
        """[M] answers among the active rows that have each feature."""
        return total(self.answers.held[np.flatnonzero(active)])

    def named(self, feature: Feature, words: frozenset[str], holders: Ints) -> bool:
        """Whether the span repeats the trigger, or what the prompts say."""
        content = {word for word in feature.words if has_letters(word)}
        if content & words:
            return True
        return bool(content) and float(np.mean([content <= self.spoken[row] for row in holders.tolist()])) > NAMED

    def as_written(self, pattern: Pattern) -> str:
        """The pattern as one prompt writes it, with the words around it that nearly all of its prompts share."""
        if pattern.is_mark:
            return pattern.key[0]
        places = [(row, at) for row in pattern.rows[:SHOWN].tolist() if (at := pattern.place(self.written[row])) is not None]
        start, stop = 0, len(pattern.key)

        def shared(offset: int) -> bool:
            words = [self.written[row][at + offset] if 0 <= at + offset < len(self.written[row]) else "" for row, at in places]
            word, count = Counter(words).most_common(1)[0]
            return bool(word) and count >= OWN_SHARE * len(words) and self.frequency[word] <= MOST_SHARE * len(self.rows)

        while stop - start < LONGEST_SHOWN and shared(start - 1):
            start -= 1
        while stop - start < LONGEST_SHOWN and shared(stop):
            stop += 1
        while stop - start > 1 and not shared(start):
            start += 1
        row, at = next((place for place in places if shared_by(self.written, place, start, stop, places)), places[0])
        return "".join(self.rows[row].prompt.spelled[max(0, at + start) : at + stop]).strip()


def shared_by(written: Sequence[Sequence[str]], place: tuple[int, int], start: int, stop: int, places: Sequence[tuple[int, int]]) -> bool:
    """Whether the words from start to stop around one place are those around most places."""
    windows = [tuple(written[row][max(0, at + start) : at + stop]) for row, at in places]
    row, at = place
    return tuple(written[row][max(0, at + start) : at + stop]) == Counter(windows).most_common(1)[0][0]


def _written(side: Side) -> list[str]:
    """The words of a prompt as written, without white space."""
    return [spelled.strip() if word else "" for word, spelled in zip(side.words, side.spelled, strict=True)]
