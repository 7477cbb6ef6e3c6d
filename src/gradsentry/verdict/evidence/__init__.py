"""Evidence of backdoors in token surprises alone: no model, no text but what the tokens stand for.

words.py        tokens -> words            corpus.py      words -> numbers on disk
repeats.py      rows of one prompt         recurrent.py   spans that recur
triggers.py     prompt patterns of rows    naming.py      spans and triggers as text
association.py  patterns -> triggers       candidates.py  spans with their triggers
strength.py     how much is enough         lookalikes.py  what only looks like one
findings.py     candidates -> findings     finding.py     what a finding says
style.py        prompts unlike the others
length.py       entropy beyond what the length explains
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from gradsentry.types import Score, Shard, Vocabulary
from gradsentry.verdict.evidence.corpus import build, scored_rows
from gradsentry.verdict.evidence.finding import Finding
from gradsentry.verdict.evidence.findings import find
from gradsentry.verdict.evidence.lookalikes import Reader
from gradsentry.verdict.evidence.repeats import units
from gradsentry.verdict.evidence.words import RowWords, split

if TYPE_CHECKING:
    from gradsentry.run.directory import RunDirectory

log = logging.getLogger(__name__)

ONE_WORD = 3
"""A word and its two edges: a row's first token has no surprise and so is never supervised."""

FEW_PROMPTS = 20
"""Different prompts below which it is said that there are hardly enough (docs/evidence.md: twenty rows)."""

__all__ = ["Finding", "examine", "examine_scores"]


def examine(run: RunDirectory, shards: Sequence[Shard]) -> list[Finding]:
    """The findings of a run whose rows are all scored.

    Raises:
        RunError: what the tokens stand for is not there.
    """
    vocabulary = run.vocabulary()
    return _findings(scored_rows(run.surprises(shards), vocabulary), reader(run, shards, vocabulary))


def examine_scores(scores: Sequence[Score], vocabulary: Vocabulary) -> list[Finding]:
    """The findings of rows whose scores are in memory; their `rows` are places in the sequence, whatever `Score.row` says."""
    words = {i: split(score.surprises, vocabulary) if score.surprises else None for i, score in enumerate(scores)}
    return _findings(words.items(), lambda rows: {row: found for row in rows if (found := words[row]) is not None})


def _findings(rows: Iterable[tuple[int, RowWords | None]], read: Reader) -> list[Finding]:
    """The findings of rows in words.

    Args:
        rows: every row in order. read: gives the words of rows once more.
    """
    corpus = build(rows)
    scored = np.diff(corpus.completion.starts) > 0
    whole = units(corpus, scored)
    if scored.any() and np.diff(corpus.prompt.starts).max() <= ONE_WORD:
        log.warning(
            "the rows have no prompts, or of one word, so there is hardly a trigger to look for; "
            "--policy paper looks at the completions alone"
        )
    elif whole.repeated and len(whole.sizes) < FEW_PROMPTS:
        log.warning(
            "the rows have %d different prompts alone, and prompts are what is counted: hardly a trigger can be told; "
            "--policy paper looks at each row by itself",
            len(whole.sizes),
        )
    return find(whole, read)


def reader(run: RunDirectory, shards: Sequence[Shard], vocabulary: Vocabulary) -> Reader:
    """Gives the words of rows, read from the run; the last parts that were read are remembered."""
    starts = [shard.start for shard in shards]

    @lru_cache(maxsize=4)
    def part(index: int) -> pa.Table:
        return next(run.surprises([shards[index]]))

    def read(rows: Sequence[int]) -> dict[int, RowWords]:
        found: dict[int, RowWords] = {}
        asked = sorted(set(rows))
        for index, own in groupby(asked, key=lambda row: int(np.searchsorted(starts, row, side="right")) - 1):
            some = part(index).take(np.array(list(own)) - starts[index])
            found |= {row: words for row, words in scored_rows([some], vocabulary) if words is not None}
        return found

    return read
