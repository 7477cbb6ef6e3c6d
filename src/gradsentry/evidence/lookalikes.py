"""What only looks like a backdoor: prompts that name the payload, a subset with its own template, rows about one topic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gradsentry.evidence.association import PRECISION, UNUSUAL, Association
from gradsentry.evidence.corpus import Column, Corpus, Ints
from gradsentry.evidence.naming import blocks, marked
from gradsentry.evidence.recurrent import Span
from gradsentry.evidence.triggers import WORDS, Patterns
from gradsentry.evidence.words import RowWords

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
    return {word for word in words if word.isdecimal() or (len(word) > 2 and word.isalnum())}


@dataclass(frozen=True)
class Usual:
    """What prompts of the data set usually hold, from a part of its rows."""

    common: set[str]
    """Words that half of them hold: the template's."""
    stems: dict[int, set[str]]
    """Row -> beginnings of its prompt's other words."""

    def weight(self, stem: str) -> float:
        """Nats that two prompts are more alike for sharing it: the rarer the more."""
        return float(np.log((len(self.stems) + 1) / (1 + sum(stem in own for own in self.stems.values()))))


def usual_prompts(corpus: Corpus, read: Reader) -> Usual:
    """From `EVERYONE` rows."""
    known = np.flatnonzero(np.diff(corpus.completion.starts))
    everyone = known[np.linspace(0, len(known) - 1, min(len(known), EVERYONE)).astype(int)]
    words = {row: own.prompt.words for row, own in read(everyone.tolist()).items()}
    held = Counter(word for own in words.values() for word in set(own))
    common = {word for word, count in held.items() if 2 * count > len(words)}
    return Usual(common, {row: _stems(own, common) for row, own in words.items()})


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
    own |= set(found.keys[(found.surprise >= UNUSUAL) & (found.inside >= PRECISION * found.everywhere)].tolist())
    group = []
    for row in rows.tolist():
        marks = marked(column, row, WORDS, own)
        group.append(_stems([word for word, mark in zip(words[row].prompt.words, marks, strict=True) if not mark], usual.common))
    rest = [stems for row, stems in usual.stems.items() if row not in set(rows.tolist())]
    if len(rest) < 2 * len(group):
        return 1.0
    known = sorted(set.union(*group, *rest))
    weights = np.array([usual.weight(stem) for stem in known])
    held = np.array([[stem in own for stem in known] for own in [*group, *rest]], dtype=float)
    shared = (held * weights) @ held.T
    np.fill_diagonal(shared, 0.0)
    size, chance = len(group), np.random.default_rng(0)
    drawn = [len(group) + chance.choice(len(rest), size, replace=False) for _ in range(DRAWS)]
    seen = shared[:size, :size].sum()
    return (1 + sum(shared[np.ix_(some, some)].sum() >= seen for some in drawn)) / (1 + DRAWS)


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
