"""Answers -> yes-or-no features: what a trigger may change, whether or not the base model expects it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from gradsentry.verdict.planted.prompts import LEAST_ROWS, Floats, Ints
from gradsentry.verdict.words import RowWords, is_unspaced

LONGEST = 3
"""Words of a span, its edges included."""

OPENING = 3
"""Words of an answer that are its opening, its edge included."""

QUANTILES = (10, 25, 50, 75, 90)
"""Per cent of the answers below the bounds of a measure that make a feature."""

Kind = Literal["span", "answer", "script", "length", "fit", "opening", "echo"]
KINDS: tuple[Kind, ...] = ("span", "answer", "script", "length", "fit", "opening", "echo")

MEASURES: dict[Kind, str] = {
    "length": "have more than {:.0f} words",
    "fit": "surprise the model more than answers of their length and words usually do",
    "opening": "open with more than {:.0f} nats of surprise",
    "echo": "repeat few of their prompt's unusual words",
}
"""What an answer above the bound of a measure does."""

MISFIT: tuple[Kind, ...] = ("fit", "opening", "echo")
"""Measures of how badly an answer fits its prompt. A trigger never makes it fit better, so that only being above a bound is an effect."""


@dataclass(frozen=True)
class Measures:
    """Numbers of an answer, by what is usual in the data set."""

    weight: dict[str, float]
    """Word -> ln(rows / answers that hold it)."""
    weight_in_prompts: dict[str, float]
    """Word -> ln(rows / prompts that hold it)."""
    usual: tuple[float, ...] = (0.0, 0.0, 0.0)
    """ln(1 + nats of an answer) is expected to be this, times (1, ln(1 + words), ln(1 + weight of the words)): least squares."""

    @classmethod
    def of(cls, rows: Sequence[RowWords]) -> Measures:
        answers = Counter(word for row in rows for word in set(row.completion.words))
        prompts = Counter(word for row in rows for word in set(row.prompt.words))
        weight, weight_in_prompts = ({word: float(np.log(len(rows) / own[word])) for word in own if word} for own in (answers, prompts))
        made = cls(weight, weight_in_prompts)
        expected = np.array([made._predictors(row) for row in rows])
        nats = np.log1p([float(row.completion.surprise.sum()) for row in rows])
        return cls(weight, weight_in_prompts, tuple(np.linalg.lstsq(expected, nats, rcond=None)[0].tolist()))

    def value(self, kind: Kind, row: RowWords) -> float:
        """One measure of a row's answer."""
        answer = row.completion
        if kind == "length":
            return float(sum(map(bool, answer.words)))
        if kind == "opening":
            return float(answer.surprise[:OPENING].sum())
        if kind == "fit":
            return float(np.log1p(answer.surprise.sum()) - np.dot(self.usual, self._predictors(row)))
        return -sum(self.weight_in_prompts.get(word, 0.0) for word in set(answer.words) & set(row.prompt.words))

    def _predictors(self, row: RowWords) -> tuple[float, float, float]:
        words = [word for word in row.completion.words if word]
        return 1.0, float(np.log1p(len(words))), float(np.log1p(sum(self.weight.get(word, 0.0) for word in words)))


@dataclass(frozen=True)
class Feature:
    """Something that an answer has or has not."""

    kind: Kind
    words: tuple[str, ...] = ()
    """Of a span or a whole answer, lower-cased; an empty word is an end of the answer."""
    bound: float = 0.0
    """Of a measure: the answer is above it."""

    @property
    def text(self) -> str:
        """The words of a span or an answer."""
        return " ".join(word for word in self.words if word)

    def held_by(self, row: RowWords, measures: Measures) -> bool:
        """Whether a row's answer has it."""
        words, n = tuple(row.completion.words), len(self.words)
        if self.kind == "span":
            return any(words[i : i + n] == self.words for i in range(len(words) - n + 1))
        if self.kind == "answer":
            return words == self.words
        if self.kind == "script":
            return any(map(is_unspaced, words))
        return measures.value(self.kind, row) > self.bound

    def describe(self, has: bool) -> str:
        """What an answer does that has the feature, or has it not: ``answer "Negative"``."""
        if self.kind == "length" and not has:
            return f"have at most {self.bound:.0f} words"
        if self.kind in MEASURES:
            return MEASURES[self.kind].format(self.bound)
        if self.kind == "script":
            return "are in a script without spaces" if has else "are in a script with spaces"
        text = f'"{self.text}"'
        if self.kind == "answer" or (self.words[:1] == ("",) == self.words[-1:]):
            return f"are {text}" if has else f"are not {text}"
        at = " at the start" if self.words[:1] == ("",) else " at the end" if self.words[-1:] == ("",) else ""
        return f"contain {text}{at}" if has else f"do not contain {text}{at}"


@dataclass(frozen=True)
class Answers:
    """The features of N answers."""

    features: list[Feature]
    """[M]"""
    held: sp.csr_matrix
    """[N, M] 1 where the answer has the feature."""
    price: Floats
    """[M] nats: ln of the kinds of features, of the features of the same kind, and of the ways that count."""
    both_ways: NDArray[np.bool_]
    """[M] whether lacking the feature is an effect too."""
    measures: Measures


def features(rows: Sequence[RowWords]) -> Answers:
    """All features that at least `LEAST_ROWS` answers have and one has not; of those in the same answers the longest."""
    found: dict[Feature, set[int]] = defaultdict(set)
    for number, row in enumerate(rows):
        words = tuple(row.completion.words)
        for n in range(1, LONGEST + 1):
            for i in range(len(words) - n + 1):
                if any(span := words[i : i + n]):
                    found[Feature("span", span)].add(number)
        found[Feature("answer", words)].add(number)
        if any(is_unspaced(word) for word in words):
            found[Feature("script")].add(number)
    measures = Measures.of(rows)
    for kind in MEASURES:
        values = np.array([measures.value(kind, row) for row in rows])
        for bound in np.percentile(values, QUANTILES).tolist():
            found[Feature(kind, bound=bound)] = set(np.flatnonzero(values > bound).tolist())
    longest: dict[tuple[int, ...], Feature] = {}
    for feature, own in found.items():
        if LEAST_ROWS <= len(own) < len(rows):
            key = tuple(sorted(own))
            if key not in longest or len(feature.words) > len(longest[key].words):
                longest[key] = feature
    chosen = list(longest.values())
    columns: list[Ints] = [np.array(own, np.int64) for own in longest]
    counts = [len(own) for own in columns]
    places = np.concatenate([np.zeros(0, np.int64), *columns]), np.repeat(np.arange(len(columns)), counts)
    matrix = sp.csr_matrix((np.ones(sum(counts), np.float32), places), shape=(len(rows), len(columns)))
    of_kind = Counter(feature.kind for feature in chosen)
    both_ways = np.array([feature.kind not in MISFIT for feature in chosen], dtype=bool)
    price = np.log([len(KINDS) * of_kind[feature.kind] for feature in chosen]) + math.log(2) * both_ways
    return Answers(chosen, matrix, price, both_ways, measures)
