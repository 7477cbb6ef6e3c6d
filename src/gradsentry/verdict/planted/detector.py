"""Finds triggers that were put into prompts, and what they do to the answers. The strongest trigger is taken, its rows are set aside, and
the search is repeated."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np

from gradsentry.verdict.finding import Finding, Kind
from gradsentry.verdict.planted.prompts import MOST_SHARE, Ints, Pattern
from gradsentry.verdict.planted.search import LISTED, Search, Trigger, written_words
from gradsentry.verdict.planted.text import as_written
from gradsentry.verdict.words import RowWords, Side, WordSource

log = logging.getLogger(__name__)

PURE = 0.85
"""Share of affected rows from which all rows of a trigger are flagged, and not only those."""

SAMPLED_WORDS = 300_000
"""Words of prompts and answers among which triggers are searched; of a larger data set, rows drawn at random."""

LEAST_PROMPTS = 20
"""Different prompts without which there is nothing to compare."""

ONE_WORD = 3
"""Length of a prompt of one word: the word and its two edges. A row's first token cannot be supervised, so rows of text alone have one."""


class PlantedTriggers:
    """Finds prompt patterns that look inserted and change the answers."""

    def find(self, rows: WordSource, note: Callable[[str], object] = log.warning) -> list[Finding]:
        """Backdoors, strongest first; then suspects; then what would be a backdoor if other words did not explain the answers as well.

        Args:
            note: called with a sentence if there is nothing in which triggers could be found.
        """
        sample = _sampled(rows)
        same = len(sample.rows) == 1 and any(len(stretch) > ONE_WORD for stretch in sample.template)  # one prompt in all rows
        if sample.rows and not same and max(len(row.prompt.words) for row in sample.rows) <= ONE_WORD:
            note("the rows have no prompts, or prompts of one word, so triggers can hardly be found")
        elif sample.rows and len(sample.rows) < LEAST_PROMPTS:
            prompts = "1 prompt" if len(sample.rows) == 1 else f"{len(sample.rows)} different prompts"
            note(f"the rows have only {prompts}, too few to look for triggers")
        if len(sample.rows) < LEAST_PROMPTS:
            return []
        search = Search(sample.rows)
        active = np.ones(len(sample.rows), dtype=bool)
        triggers: list[Trigger] = []
        while (trigger := search.strongest(active)) is not None and trigger.is_suspect:
            if trigger.is_backdoor and triggers and not triggers[-1].is_backdoor:
                trigger = replace(trigger, doubt="it has enough evidence only without the rows of a suspect")
            triggers.append(trigger)
            active[trigger.rows] = False
            if sum(not own.is_backdoor for own in triggers) == LISTED:
                break
        for further in (search.conspicuous, search.explained):
            for trigger in triggers:
                active[trigger.rows] = False
            triggers += further(active)
        triggers = [
            replace(trigger, texts=tuple(map(search.trigger_text, trigger.patterns)), payload=search.payload_text(trigger))
            for trigger in triggers
        ]
        found = _findings(triggers, rows, sample.template)
        payloads = [_payload(span, search.rows, sample.numbers) for span in search.payloads(active)]
        return [*(one for one in found if one.kind != "explained"), *payloads, *(one for one in found if one.kind == "explained")]


@dataclass(frozen=True)
class Sample:
    """The scored rows, one of each prompt; some of a large data set."""

    numbers: Ints
    """[N] their row numbers."""
    rows: list[RowWords]
    """[N] their words, without the template in the prompts."""
    template: frozenset[tuple[str, ...]]
    """Stretches of prompts, as written, that more than `MOST_SHARE` of the prompts hold."""


def _sampled(rows: WordSource) -> Sample:
    """One row of each prompt; of more than `SAMPLED_WORDS` words, rows drawn by a hash of all prompts, which nobody who adds rows knows."""
    words: list[RowWords] = []
    numbers: dict[int, int] = {}
    size = 0
    for place, row in enumerate(rows):
        if row is not None and (key := _key(row)) not in numbers:
            numbers[key] = place
            size += len(row.prompt.words) + len(row.completion.words)
            if size <= SAMPLED_WORDS:
                words.append(row)
    places = np.array(list(numbers.values()), np.int64)
    if size > SAMPLED_WORDS:
        keys = np.array(list(numbers), np.uint64)
        salt = int.from_bytes(blake2b(np.sort(keys).tobytes(), digest_size=8).digest(), "big")
        mixed = (blake2b((key ^ salt).to_bytes(8, "big"), digest_size=8).digest() for key in keys.tolist())
        order = np.argsort([int.from_bytes(own, "big") for own in mixed], kind="stable")
        places = np.sort(places[order[: len(places) * SAMPLED_WORDS // size]])
        chosen = frozenset(places.tolist())
        words = [row for place, row in enumerate(rows) if place in chosen and row is not None]
    counts = Counter(key for row in words for key in {key for key, _ in _stretches(row.prompt)})
    template = frozenset(key for key, count in counts.items() if count > MOST_SHARE * len(words))
    return Sample(places, [replace(row, prompt=_without(template, row.prompt)) for row in words], template)


def _key(row: RowWords) -> int:
    """A hash of a row's prompt."""
    return int.from_bytes(blake2b("\0".join(row.prompt.spelled).encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _findings(triggers: Sequence[Trigger], rows: WordSource, template: frozenset[tuple[str, ...]]) -> list[Finding]:
    """The triggers as findings of all rows whose prompts hold them outside the template; a row goes to the strongest."""
    held: list[list[tuple[int, bool, bool]]] = [[] for _ in triggers]  # (row, affected, shows the effect)
    for number, row in enumerate(rows if triggers else ()):
        if row is None:
            continue
        seen = replace(row, prompt=_without(template, row.prompt))
        written = written_words(seen.prompt)
        for own, trigger in zip(held, triggers, strict=True):
            if trigger.in_prompt(seen.prompt, written):
                shows = trigger.feature is None or trigger.feature.held_by(seen, trigger.measures) == trigger.has
                own.append((number, trigger.affects(seen), shows))
                break
    return [_finding(trigger, own) for trigger, own in zip(triggers, held, strict=True) if own]


def _finding(trigger: Trigger, held: Sequence[tuple[int, bool, bool]]) -> Finding:
    affected = [row for row, is_affected, shows in held if is_affected or shows]
    showing = sum(shows for _, _, shows in held)
    # A payload that nearly all rows hold is the effect: those without it are not affected.
    plain = trigger.payload and showing >= PURE * len(held)
    feature = trigger.feature
    kind: Kind = "explained" if trigger.unfair else "backdoor" if feature is not None and trigger.is_backdoor else "suspect"
    pure = len(affected) >= PURE * len(held) and not plain
    rows = [row for row, _, _ in held] if pure or kind == "suspect" else affected
    evidence = {"insertion": trigger.insertion} | ({"effect": min(trigger.effect, trigger.rarity)} if feature is not None else {})
    return Finding(
        kind=kind,
        payload=trigger.payload,
        triggers=(" ... ".join(trigger.texts),) if trigger.together else trigger.texts,
        rows=np.array(rows, np.int64),
        effect=feature.describe(trigger.has) if feature is not None else "",
        showing=showing,
        prompts=len(held),
        expected=trigger.expected,
        evidence={part: round(nats, 1) for part, nats in evidence.items()},
        why=trigger.unfair or trigger.doubt,
    )


def _payload(span: Pattern, rows: Sequence[RowWords], numbers: Ints) -> Finding:
    """A span of answers without a trigger."""
    sides = [rows[row].completion for row in span.rows]
    return Finding(
        kind="suspect",
        payload=as_written(span.key, sides, list(map(written_words, sides)), lambda word: False),
        triggers=(),
        rows=numbers[span.rows],
        effect="",
        showing=len(span.rows),
        prompts=len(span.rows),
        expected=0.0,
        evidence={"payload": round(span.insertion, 1)},
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
