"""What only looks like a backdoor: prompts that name the payload, a subset with its own template, rows about one topic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from gradsentry.evidence.association import Association
from gradsentry.evidence.corpus import Column, Corpus, Ints
from gradsentry.evidence.naming import blocks, marked
from gradsentry.evidence.recurrent import Span
from gradsentry.evidence.triggers import WORDS, Patterns
from gradsentry.evidence.words import RowWords

Reader = Callable[[Sequence[int]], dict[int, RowWords]]
"""The words of some rows, read again."""

ASSOCIATED = 0.03
"""Corrected p up to which a further pattern counts as shared by the rows of a finding."""

EVERYONE = 200
"""Rows, evenly spaced, from which the words that half of all prompts hold are told."""


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


def common_words(corpus: Corpus, read: Reader) -> set[str]:
    """Words that half of all prompts hold: the template's."""
    known = np.flatnonzero(np.diff(corpus.completion.starts))
    everyone = known[np.linspace(0, len(known) - 1, min(len(known), EVERYONE)).astype(int)]
    held = Counter(word for row in read(everyone.tolist()).values() for word in set(row.prompt.words))
    return {word for word, count in held.items() if 2 * count > len(everyone)}


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
