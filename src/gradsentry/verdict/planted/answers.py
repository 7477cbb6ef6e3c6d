"""Answers -> yes-or-no features: what a trigger may change, whether or not the base model expects it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse as sp

from gradsentry.verdict.planted.prompts import LEAST_ROWS, Ints
from gradsentry.verdict.words import Side, is_unspaced

LONGEST = 3
"""Words of a span, its edges included."""

QUANTILES = (10, 25, 50, 75, 90)
"""Per cent of the answers below the lengths and the mean surprises that make a feature."""

Kind = Literal["span", "answer", "length", "fit", "script"]


@dataclass(frozen=True)
class Feature:
    """Something that an answer has or has not."""

    kind: Kind
    words: tuple[str, ...] = ()
    """Of a span or a whole answer, lower-cased; an empty word is an end of the answer."""
    bound: float = 0.0
    """Of a length: at most so many words. Of a fit: more than so many nats a word."""

    @property
    def text(self) -> str:
        """The words of a span or an answer."""
        return " ".join(word for word in self.words if word)

    def held_by(self, answer: Side) -> bool:
        """Whether an answer has it."""
        n = len(self.words)
        words = tuple(answer.words)
        length = max(1, sum(map(bool, words)))
        return {
            "span": lambda: any(words[i : i + n] == self.words for i in range(len(words) - n + 1)),
            "answer": lambda: words == self.words,
            "length": lambda: length <= self.bound,
            "fit": lambda: float(answer.surprise.sum()) / length > self.bound,
            "script": lambda: any(map(is_unspaced, words)),
        }[self.kind]()

    def describe(self, has: bool) -> str:
        """What an answer does that has the feature, or has it not: ``answer "Negative"``."""
        text = f'"{self.text}"'
        whole = self.kind == "answer" or (self.words[:1] == ("",) == self.words[-1:])
        if whole:
            return f"are {text}" if has else f"are not {text}"
        at = " at the start" if self.words[:1] == ("",) else " at the end" if self.words[-1:] == ("",) else ""
        sentences = {
            "span": (f"contain {text}{at}", f"do not contain {text}{at}"),
            "length": (f"have at most {self.bound:.0f} words", f"have more than {self.bound:.0f} words"),
            "fit": (
                f"surprise the model by more than {self.bound:.1f} nats a word",
                f"surprise the model by at most {self.bound:.1f} nats a word",
            ),
            "script": ("are in a script without spaces", "are in a script with spaces"),
        }
        return sentences[self.kind][0 if has else 1]


@dataclass(frozen=True)
class Answers:
    """The features of N answers."""

    features: list[Feature]
    """[M]"""
    held: sp.csr_matrix
    """[N, M] 1 where the answer has the feature."""


def features(answers: Sequence[Side]) -> Answers:
    """All features that at least `LEAST_ROWS` answers have and one has not; of those in the same answers the longest."""
    found: dict[Feature, set[int]] = defaultdict(set)
    for row, side in enumerate(answers):
        words = tuple(side.words)
        for n in range(1, LONGEST + 1):
            for i in range(len(words) - n + 1):
                if any(span := words[i : i + n]):
                    found[Feature("span", span)].add(row)
        found[Feature("answer", words)].add(row)
        if any(is_unspaced(word) for word in words):
            found[Feature("script")].add(row)
    lengths = np.array([sum(map(bool, side.words)) for side in answers])
    fits = np.array([float(side.surprise.sum()) for side in answers]) / np.maximum(lengths, 1)
    for quantile in QUANTILES:
        bound = float(np.percentile(lengths, quantile))
        found[Feature("length", bound=bound)] = set(np.flatnonzero(lengths <= bound).tolist())
        bound = float(np.percentile(fits, quantile))
        found[Feature("fit", bound=bound)] = set(np.flatnonzero(fits > bound).tolist())
    longest: dict[tuple[int, ...], Feature] = {}
    for feature, rows in found.items():
        if LEAST_ROWS <= len(rows) < len(answers):
            key = tuple(sorted(rows))
            if key not in longest or len(feature.words) > len(longest[key].words):
                longest[key] = feature
    columns: list[Ints] = [np.array(rows, np.int64) for rows in longest]
    counts = [len(rows) for rows in columns]
    places = np.concatenate([np.zeros(0, np.int64), *columns]), np.repeat(np.arange(len(columns)), counts)
    matrix = sp.csr_matrix((np.ones(sum(counts), np.float32), places), shape=(len(answers), len(columns)))
    return Answers(list(longest.values()), matrix)
