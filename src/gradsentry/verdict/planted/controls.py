"""Matched controls: for each prompt with a pattern the prompt without it that is most alike otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import betaln

from gradsentry.verdict.planted.prompts import MOST_SHARE, Floats, Ints
from gradsentry.verdict.words import Side

REUSE = 0.1
"""Cosine that a control loses each time it is used, so that a few prompts do not stand for all."""

OWN_SHARE = 0.8
"""A word belongs to a trigger if at least this share of its prompts hold the word, and of the word's prompts the trigger."""

NEIGHBOURS = 100
"""Most similar prompts that are kept of each prompt."""

LEAST_SQUARE = 1e-3
"""A prompt of a trigger's own words alone is like no other."""

BLOCK = 500
"""Prompts that are compared with all others at once."""

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

    @cached_property
    def weighted(self) -> sp.csr_matrix:
        """[N, V] the weight of each word that the prompt holds."""
        return self.held.multiply(self.weight[None, :]).tocsr()

    @cached_property
    def squares(self) -> Floats:
        """[N] squared length of each prompt's weights."""
        return np.asarray(self.weighted.multiply(self.weighted).sum(axis=1), np.float64).ravel()

    @property
    def count(self) -> int:
        """N."""
        return len(self.held.indptr) - 1

    @cached_property
    def counts(self) -> Floats:
        """[V] prompts that hold each word."""
        return total(self.held)

    def own(self, words: frozenset[str], rows: Ints) -> Ints:
        """Columns of a trigger's words: those of the pattern, those that hardly occur without it, and those of a template that it
        replaces (which hardly occur with it, and in most other prompts)."""
        inside, everywhere = total(self.held, rows), self.counts
        exclusive = (inside >= OWN_SHARE * len(rows)) & (inside >= OWN_SHARE * everywhere)
        replaced = (inside <= (1 - OWN_SHARE) * len(rows)) & (everywhere - inside >= OWN_SHARE * (self.count - len(rows)))
        return np.union1d(np.flatnonzero(exclusive | replaced), self.columns(words))

    def columns(self, words: frozenset[str]) -> Ints:
        """The columns of some words, as far as a prompt holds them."""
        return np.array(sorted(self.names[word] for word in words if word in self.names), np.int64)

    @cached_property
    def neighbours(self) -> tuple[Ints, Floats]:
        """[N, K] the most similar other prompts of each, and their cosines, descending."""
        length = np.sqrt(np.maximum(self.squares, LEAST_SQUARE))
        count = min(NEIGHBOURS, self.count - 1)
        found, cosines = np.zeros((self.count, count), np.int64), np.zeros((self.count, count))
        for start in range(0, self.count, BLOCK):
            own = np.arange(start, min(start + BLOCK, self.count))
            similar = (self.weighted[own] @ self.weighted.T).toarray() / length[own, None] / length[None, :]
            similar[own - start, own] = -1.0
            found[own] = np.argsort(-similar, axis=1, kind="stable")[:, :count]
            cosines[own] = np.take_along_axis(similar, found[own], axis=1)
        return found, cosines

    def nearest(self, left_out: Ints) -> Floats:
        """Cosine of each prompt and the most similar other one, both of those that are not left out."""
        found, cosines = self.neighbours
        allowed = np.ones(self.count, dtype=bool)
        allowed[left_out] = False
        places = np.argmax(allowed[found], axis=1)  # the first, where all neighbours are left out
        return cosines[allowed, places[allowed]]

    def controls(self, rows: Ints, own: Ints, allowed: NDArray[np.bool_]) -> tuple[Ints, Floats]:
        """For each of the rows the most similar other prompt, by the cosine of weighted words without the trigger's own.

        Args:
            rows: [c] of the trigger. own: columns of its words. allowed: [N] prompts that may be a control; those of `rows` never are.

        Returns:
            [c] the controls, in no order; [c] cosine of each row and the prompt most similar to it.
        """
        own_words = self.weighted[:, own].toarray()
        length = np.sqrt(np.maximum(self.squares - (own_words**2).sum(axis=1), LEAST_SQUARE))
        others = np.flatnonzero(allowed & ~np.isin(np.arange(self.count), rows))
        similar = (self.weighted[rows] @ self.weighted.T).toarray() - own_words[rows] @ own_words.T
        similar = similar[:, others] / length[rows, None] / length[None, others]
        used = np.zeros(len(others))
        chosen = []
        for i in np.argsort(-similar.max(axis=1), kind="stable"):
            best = int(np.argmax(similar[i] - REUSE * used))
            used[best] += 1
            chosen.append(int(others[best]))
        return np.array(chosen, np.int64), similar.max(axis=1)

    def mismatch(self, rows: Ints, similarity: Floats) -> float:
        """How much worse the rest of the trigger's prompts is matched than other prompts are, in nats, less ln 100.

        A trigger is inserted into ordinary prompts, so the rest of each prompt resembles other prompts. Above 0 it does not: the rows
        share a template, a topic or a language. Counts the prompts below the lower quartile of the other prompts' `nearest`.

        Args:
            rows: [c] of the trigger. similarity: [c] as `controls` returns it.
        """
        below = float((similarity < np.quantile(self.nearest(rows), 0.25)).sum())
        nats = float(log_ratio(np.array([below]), len(rows), np.array([0.25]))[0]) if below > 0.25 * len(rows) else -np.inf
        return nats - float(np.log(100))

    def share(self, word: str) -> float:
        """Share of the prompts that hold a word."""
        return float(self.counts[self.names[word]]) / self.count if word in self.names else 0.0

    def counterpart(self, rows: Ints, controls: Ints, own: Ints) -> str:
        """The word that nearly all controls and hardly any of the trigger's rows hold, other than the trigger's own words; empty for none.

        What more than half of all prompts hold is their habit, from which the trigger departs, and no counterpart.

        Args:
            rows: [c] of the trigger. controls: [c] as `controls` returns them. own: columns of the trigger's words.
        """
        inside, beside = total(self.held, rows), total(self.held, controls)
        nats = log_ratio(inside, len(rows), rate(beside, len(controls))) - np.log(len(self.names))
        nats[(inside > (1 - OWN_SHARE) * len(rows)) | (beside < OWN_SHARE * len(controls))] = -np.inf
        nats[own] = -np.inf
        nats[self.counts > MOST_SHARE * self.count] = -np.inf
        place = int(np.argmax(nats))
        return list(self.names)[place] if nats[place] > 0 else ""

    def imbalance(self, rows: Ints, away: Floats, controls: Ints, own: Ints) -> tuple[float, str, bool]:
        """How unlike the controls and all other prompts are: the strongest difference in a word that is not the trigger's, in nats, less
        the price of V words; the word; and whether the trigger's prompts hold it more often. Above 0 the comparison is not fair: that word
        may explain the answers as well as the trigger.

        Args:
            rows: [c] of the trigger. away: [V] those of them that hold each word elsewhere than next to the trigger, because words next to
                it may be inserted with it. own: columns of the trigger's words.
        """
        inside, count = total(self.held, rows), len(rows)
        beside = rate(total(self.held, controls), len(controls))
        elsewhere = rate(self.counts - inside, self.count - count)
        low, high = np.minimum(beside, elsewhere), np.maximum(beside, elsewhere)
        # Whichever explains less: a number of prompts with and without those next to the trigger, and a rate between the two expected.
        more = away > high * count
        nats = np.where(more, log_ratio(away, count, high), log_ratio(np.minimum(inside, low * count), count, low))
        nats[own] = -np.inf
        strongest = int(np.argmax(nats))
        return float(nats[strongest] - np.log(len(self.names))), list(self.names)[strongest], bool(more[strongest])


def total(held: sp.csr_matrix, rows: Ints | None = None) -> Floats:
    """[V] number of the rows, of all without `rows`, that have each column; held: [N, V] zeros and ones."""
    places = held.indices
    if rows is not None:
        starts, counts = held.indptr[rows], held.indptr[rows + 1] - held.indptr[rows]
        places = places[np.arange(counts.sum()) + np.repeat(starts - (np.cumsum(counts) - counts), counts)]
    return np.bincount(places, minlength=held.shape[1] if held.shape else 0).astype(np.float64)


def rate(count: Floats, of: Floats | int) -> Floats:
    """A share, with half a count added, so that nothing is impossible."""
    return np.clip((count + 0.5) / (of + 1), LEAST_RATE, MOST_RATE)


def log_ratio(count: Floats, of: Floats | int, expected: Floats) -> Floats:
    """Log Bayes factor in nats: an unknown rate under Jeffreys' prior (beta-binomial) against the expected rate (binomial).

    Args:
        count: [M] successes. of: trials. expected: [M] rate under the null hypothesis.
    """
    own = betaln(count + 0.5, of - count + 0.5) - betaln(0.5, 0.5)
    return own - count * np.log(expected) - (of - count) * np.log1p(-expected)
