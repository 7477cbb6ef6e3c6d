"""What looks like a backdoor and is none: prompts that name the payload, a subset with its own template, rows about one topic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from gradsentry.verdict.evidence.association import ONE_WORDING, UNUSUAL, Association
from gradsentry.verdict.evidence.corpus import Column, Ints
from gradsentry.verdict.evidence.naming import blocks, marked
from gradsentry.verdict.evidence.recurrent import Span
from gradsentry.verdict.evidence.triggers import WORDS, Patterns
from gradsentry.verdict.words import RowWords, WordSource, is_long, is_unspaced, without_marks

ASSOCIATED_P = 0.03
"""Highest corrected p of a further pattern that the rows of a finding share."""

SAMPLED_ROWS = 400
"""Rows, evenly spaced, that show which words half of all prompts hold and how similar prompts usually are."""

STEM = 5
"""Letters by which words are compared: "country" and "countries" are equal."""

DRAWS = 999
"""Random groups of other rows with which the rows of a finding are compared."""

ROUNDING = 1e-6
"""Nats by which sums of the same weights may differ."""


def shared_prompt(column: Column, span: Span, found: Patterns, association: Association, some: Ints) -> tuple[float, float]:
    """What the rows of a finding share in their prompts and other rows do not.

    Args:
        column: prompts. span, found, association: of the finding. some: rows of the finding to look at.

    Returns:
        The mean number of shared places other than those of the triggers, and the median number of shared words, triggers included.
    """
    frequent = found.inside >= len(span.rows) / 2
    associated = frequent & (found.log10_p + np.log10(max(1, len(found.keys))) <= np.log10(ASSOCIATED_P))
    triggers = {int(found.keys[i]) for trigger in association.triggers for i in trigger.patterns}
    shared = triggers | set(found.keys[associated].tolist())
    places, words = [], []
    for row in some.tolist():
        marks, of_trigger = marked(column, row, WORDS, shared), marked(column, row, WORDS, triggers)
        places.append(sum(not of_trigger[start:stop].any() for start, stop in blocks(marks)))
        words.append(int(marks.sum()))
    return float(np.mean(places)), float(np.median(words))


def _content(words: Sequence[str]) -> set[str]:
    return {word for word in words if word.isdecimal() or is_unspaced(word) or (is_long(word) and without_marks(word).isalnum())}


@dataclass(frozen=True)
class UsualPrompts:
    """What prompts of the data set usually hold, by a sample of n rows."""

    common: set[str]
    """Words that half of them hold: those of the template."""
    rows: Ints
    """[n]"""
    weights: dict[str, float]
    """By stem of a word that is not common: the nats of similarity between two prompts that share it. The rarer, the more."""
    similarity: NDArray[np.float64]
    """[n, n] nats that each two of the rows share."""


def usual_prompts(scored: Ints, source: WordSource) -> UsualPrompts:
    """What the prompts of the scored rows usually hold."""
    rows = scored[np.linspace(0, len(scored) - 1, min(len(scored), SAMPLED_ROWS)).astype(int)]
    words = source.read(rows.tolist())
    held = Counter(word for own in words.values() for word in set(own.prompt.words))
    common = {word for word, count in held.items() if 2 * count > len(rows)}
    stems = [_stems(words[row].prompt.words, common) for row in rows.tolist()]
    counts = Counter(stem for own in stems for stem in own)
    places = {stem: i for i, stem in enumerate(sorted(counts))}
    weights = {stem: float(np.log((len(rows) + 1) / (counts[stem] + 1))) for stem in places}
    holds = np.zeros((len(rows), len(places)))
    for i, own in enumerate(stems):
        holds[i, [places[stem] for stem in own]] = 1
    similarity = (holds * [weights[stem] for stem in places]) @ holds.T
    np.fill_diagonal(similarity, 0)
    return UsualPrompts(common, rows, weights, similarity)


def _stems(words: Sequence[str], common: set[str]) -> set[str]:
    return {word[:STEM] for word in _content(words) - common}


def similarity_p(
    column: Column, found: Patterns, association: Association, rows: Ints, words: dict[int, RowWords], usual: UsualPrompts
) -> float:
    """p of how similar the prompts of few rows are, apart from their triggers: the share of equally large groups of other rows that are
    as similar. Questions on one topic share more than one word; rows with a planted trigger do not.

    Args:
        column: prompts. found, association, rows: of the finding. words: by row.
    """
    # Patterns that could be triggers are ignored here: a style consists of many such words.
    ignored = {int(found.keys[i]) for trigger in association.triggers for i in trigger.patterns}
    least = ONE_WORDING.least_precision(len(rows), len(column.starts) - 1)
    ignored |= set(found.keys[(found.surprise >= UNUSUAL) & (found.inside >= least * found.everywhere)].tolist())
    group = []
    for row in rows.tolist():
        marks = marked(column, row, WORDS, ignored)
        group.append(_stems([word for word, mark in zip(words[row].prompt.words, marks, strict=True) if not mark], usual.common))
    rest = np.flatnonzero(~np.isin(usual.rows, rows))
    if len(rest) < 2 * len(group):
        return 1.0
    rarest = float(np.log(len(usual.rows) + 1))  # weight of a word that none of the rows holds
    observed = sum(usual.weights.get(stem, rarest) for one, other in combinations(group, 2) for stem in one & other)
    generator = np.random.default_rng(0)
    drawn = (generator.choice(rest, len(group), replace=False) for _ in range(DRAWS))
    # The similarity of each pair is in the table twice.
    as_similar = sum(usual.similarity[np.ix_(some, some)].sum() / 2 >= observed - ROUNDING for some in drawn)
    return (1 + as_similar) / (1 + DRAWS)


def prompts_name_payload(column: Column, span: Span, some: Ints, words: dict[int, RowWords], common: set[str]) -> bool:
    """Whether the prompts of half of the rows name half of the payload's content words.

    Args:
        column: completions. some: rows of the finding to look at. words: by row. common: words to ignore.
    """
    count = 0
    for row in some.tolist():
        marks = marked(column, row, span.n_words, {span.key})
        said = _content([word for word, mark in zip(words[row].completion.words, marks, strict=True) if mark]) - common
        count += bool(said) and 2 * len(said & set(words[row].prompt.words)) >= len(said)
    return 2 * count >= len(some)
