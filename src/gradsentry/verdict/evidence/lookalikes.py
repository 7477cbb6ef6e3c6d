"""What only looks like a backdoor: prompts that name the payload, a subset with its own template, rows about one topic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from gradsentry.verdict.evidence.association import ONE, UNUSUAL, Association
from gradsentry.verdict.evidence.corpus import Column, Ints
from gradsentry.verdict.evidence.naming import blocks, marked
from gradsentry.verdict.evidence.recurrent import Span
from gradsentry.verdict.evidence.triggers import WORDS, Patterns
from gradsentry.verdict.evidence.words import RowWords, long, plain, unparted

Reader = Callable[[Sequence[int]], dict[int, RowWords]]
"""The words of some rows, read again."""

ASSOCIATED = 0.03
"""Corrected p up to which a further pattern counts as shared by the rows of a finding."""

EVERYONE = 400
"""Rows, evenly spaced, from which the words that half of all prompts hold are told, and how alike any prompts are."""

STEM = 5
"""Letters by which words are compared: "country" and "countries" are one."""

DRAWS = 999
"""Groups of other rows that a finding's are compared with."""

ROUNDING = 1e-6
"""Nats by which sums of the same weights may differ."""


def shared_prompt(column: Column, span: Span, found: Patterns, association: Association, some: Ints) -> tuple[float, float]:
    """(places, words) of prompt that the rows share and others do not: the mean number of places beside the triggers' own,
    and the median number of words, those of the triggers included.

    Args:
        column: prompts. span, found, association: of the finding. some: rows of it that are looked at.
    """
    held = found.inside >= len(span.rows) / 2
    close = held & (found.log10_p + np.log10(max(1, len(found.keys))) <= np.log10(ASSOCIATED))
    triggers = {int(found.keys[i]) for trigger in association.triggers for i in trigger.patterns}
    wanted = triggers | set(found.keys[close].tolist())
    places, words = [], []
    for row in some.tolist():
        marks, own = marked(column, row, WORDS, wanted), marked(column, row, WORDS, triggers)
        places.append(sum(not own[start:stop].any() for start, stop in blocks(marks)))
        words.append(int(marks.sum()))
    return float(np.mean(places)), float(np.median(words))


def _content(words: Sequence[str]) -> set[str]:
    return {word for word in words if word.isdecimal() or unparted(word) or (long(word) and plain(word).isalnum())}


@dataclass(frozen=True)
class Usual:
    """What prompts of the data set usually hold, from n of its rows."""

    common: set[str]
    """Words that half of them hold: the template's."""
    rows: Ints
    """[n]"""
    weights: dict[str, float]
    """Beginning of a word that is not common -> nats that two prompts are more alike for sharing it: the rarer the more."""
    alike: NDArray[np.float64]
    """[n, n] nats that each two of the rows share."""

    @property
    def rarest(self) -> float:
        """Weight of a word that none of the rows holds."""
        return float(np.log(len(self.rows) + 1))


def usual_prompts(known: Ints, read: Reader) -> Usual:
    """From `EVERYONE` of the known rows."""
    rows = known[np.linspace(0, len(known) - 1, min(len(known), EVERYONE)).astype(int)]
    words = read(rows.tolist())
    held = Counter(word for own in words.values() for word in set(own.prompt.words))
    common = {word for word, count in held.items() if 2 * count > len(rows)}
    stems = [_stems(words[row].prompt.words, common) for row in rows.tolist()]
    counts = Counter(stem for own in stems for stem in own)
    places = {stem: i for i, stem in enumerate(sorted(counts))}
    weights = {stem: float(np.log((len(rows) + 1) / (counts[stem] + 1))) for stem in places}
    holds = np.zeros((len(rows), len(places)))
    for i, own in enumerate(stems):
        holds[i, [places[stem] for stem in own]] = 1
    alike = (holds * [weights[stem] for stem in places]) @ holds.T
    np.fill_diagonal(alike, 0)
    return Usual(common, rows, weights, alike)


def _stems(words: Sequence[str], common: set[str]) -> set[str]:
    return {word[:STEM] for word in _content(words) - common}


def alike(column: Column, found: Patterns, association: Association, rows: Ints, words: dict[int, RowWords], usual: Usual) -> float:
    """p of what the prompts of few rows share beside their triggers: the share of groups of as many other rows that share as
    much. Questions on one topic have more than one word in common; rows that a trigger was planted in do not.

    Args:
        column: prompts. found, association: of the finding. rows: its own. words: theirs. usual: of other rows.
    """
    # Whatever could be a trigger says nothing here: a style is many such words.
    own = {int(found.keys[i]) for trigger in association.triggers for i in trigger.patterns}
    least = ONE.least_precision(len(rows), len(column.starts) - 1)
    own |= set(found.keys[(found.surprise >= UNUSUAL) & (found.inside >= least * found.everywhere)].tolist())
    group = []
    for row in rows.tolist():
        marks = marked(column, row, WORDS, own)
        group.append(_stems([word for word, mark in zip(words[row].prompt.words, marks, strict=True) if not mark], usual.common))
    rest = np.flatnonzero(~np.isin(usual.rows, rows))
    if len(rest) < 2 * len(group):
        return 1.0
    seen = sum(usual.weights.get(stem, usual.rarest) for one, other in combinations(group, 2) for stem in one & other)
    chance = np.random.default_rng(0)
    drawn = (chance.choice(rest, len(group), replace=False) for _ in range(DRAWS))
    # Each pair stands in the table twice.
    return (1 + sum(usual.alike[np.ix_(some, some)].sum() / 2 >= seen - ROUNDING for some in drawn)) / (1 + DRAWS)


def named(column: Column, span: Span, some: Ints, words: dict[int, RowWords], common: set[str]) -> bool:
    """Whether the prompts themselves name what the completions say: half of the payload's content words, in half of the rows.

    Args:
        column: completions. some: rows of the finding that are looked at. words: theirs. common: words that say nothing.
    """
    count = 0
    for row in some.tolist():
        marks = marked(column, row, span.n_words, {span.key})
        said = _content([word for word, mark in zip(words[row].completion.words, marks, strict=True) if mark]) - common
        count += bool(said) and 2 * len(said & set(words[row].prompt.words)) >= len(said)
    return 2 * count >= len(some)
