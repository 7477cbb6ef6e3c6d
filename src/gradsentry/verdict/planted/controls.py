"""Matched controls: for each prompt with a pattern the prompt without it that is most alike otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import betaln

from gradsentry.verdict.planted.prompts import Floats, Ints
from gradsentry.verdict.words import Side

REUSE = 0.1
"""Cosine that a control loses each time it is used, so that a few prompts do not stand for all."""

OWN_SHARE = 0.8
"""A word belongs to a trigger if at least this share of its prompts hold the word, and of the word's prompts the trigger."""

LEAST_RATE, MOST_RATE = 1e-4, 1 - 1e-4


@dataclass(frozen=True)
class Prompts:
    """The words of N prompts."""

    names: dict[str, int]
    """Lower-cased word -> its column; V of them."""
    held: sp.csr_matrix
    """[N, V] 1 where the prompt holds the word."""
    weight: Floats
    """[V] inverse document frequency: ln(N / prompts with the word)."""

    @classmethod
    def of(cls, prompts: Sequence[Side]) -> Prompts:
        names: dict[str, int] = {}
        rows, columns = [], []
        for row, side in enumerate(prompts):
            for word in {word for word in side.words if word}:
                rows.append(row)
                columns.append(names.setdefault(word, len(names)))
        held = sp.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(len(prompts), len(names)))
        return cls(names, held, np.log(len(prompts) / np.maximum(total(held), 1)))

    @property
    def count(self) -> int:
        """N."""
        return len(self.held.indptr) - 1

    def own(self, words: frozenset[str], rows: Ints) -> Ints:
        """Columns of a trigger's words: those of the pattern, those that hardly occur without it, and those of a template that it
        replaces (which hardly occur with it, and in most other prompts)."""
        inside, everywhere = total(self.held[rows]), total(self.held)
        exclusive = (inside >= OWN_SHARE * len(rows)) & (inside >= OWN_SHARE * everywhere)
        replaced = (inside <= (1 - OWN_SHARE) * len(rows)) & (everywhere - inside >= OWN_SHARE * (self.count - len(rows)))
        return np.union1d(np.flatnonzero(exclusive | replaced), self.columns(words))

    def columns(self, words: frozenset[str]) -> Ints:
        """The columns of some words, as far as a prompt holds them."""
        return np.array(sorted(self.names[word] for word in words if word in self.names), np.int64)

    def controls(self, rows: Ints, own: Ints, allowed: NDArray[np.bool_]) -> Ints:
        """For each of the rows the most similar other prompt, by the cosine of weighted words without the trigger's own.

        Args:
            rows: [c] of the trigger. own: columns of its words. allowed: [N] prompts that may be a control; those of `rows` never are.

        Returns:
            [c] in no order.
        """
        weight = self.weight.copy()
        weight[own] = 0.0
        weighted = self.held.multiply(weight[None, :]).tocsr()
        length = np.sqrt(total(weighted.multiply(weighted).T.tocsr())) + 1e-9
        others = np.flatnonzero(allowed & ~np.isin(np.arange(self.count), rows))
        similar = (weighted[rows] @ weighted[others].T).toarray() / length[rows, None] / length[None, others]
        used = np.zeros(len(others))
        chosen = []
        for i in np.argsort(-similar.max(axis=1), kind="stable"):
            best = int(np.argmax(similar[i] - REUSE * used))
            used[best] += 1
            chosen.append(int(others[best]))
        return np.array(chosen, np.int64)

    def imbalance(self, rows: Ints, controls: Ints, own: Ints) -> float:
        """How unlike the controls are, in nats: the strongest difference in a word that is not the trigger's, less the price of V words.

        Above 0 the comparison is not fair: the other words may explain the answers as well as the trigger.
        """
        inside, beside = total(self.held[rows]), total(self.held[controls])
        nats = log_ratio(inside, len(rows), rate(beside, len(controls)))
        nats[own] = -np.inf
        return float(nats.max(initial=-np.inf)) - float(np.log(max(1, len(self.names))))


def total(held: sp.csr_matrix) -> Floats:
    """[V] column sums."""
    return np.asarray(held.sum(axis=0), np.float64).ravel()


def rate(count: Floats, of: int) -> Floats:
    """A share, with half a count added, so that nothing is impossible."""
    return np.clip((count + 0.5) / (of + 1), LEAST_RATE, MOST_RATE)


def log_ratio(count: Floats, of: int, expected: Floats) -> Floats:
    """Log Bayes factor in nats: an unknown rate under Jeffreys' prior (beta-binomial) against the expected rate (binomial).

    Args:
        count: [M] successes. of: trials. expected: [M] rate under the null hypothesis.
    """
    own = betaln(count + 0.5, of - count + 0.5) - betaln(0.5, 0.5)
    return own - count * np.log(expected) - (of - count) * np.log1p(-expected)
