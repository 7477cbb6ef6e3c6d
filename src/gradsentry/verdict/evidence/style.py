"""How prompts read: whether a bag of features tells some rows from the others where no pattern is their trigger. A style has no n-gram
that all of its prompts share.

The classifier is naive Bayes: linear in the features, smoothed towards the rate of each feature in all rows. Every row is scored by
weights from the other rows (leave-one-out), for which naive Bayes has a closed form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from gradsentry.verdict.evidence.association import UNUSUAL
from gradsentry.verdict.evidence.corpus import Column, Ints, Mask, chunks, is_among, ngrams, once_per_row
from gradsentry.verdict.evidence.triggers import log10_tail

WORDS = 2
"""Words of the longest feature."""

SMOOTHING = 0.5
"""Average rows that are added to the counts of each side."""

SAMPLED_ROWS = 20_000
"""Rows, evenly spaced, with which the groups are compared."""

BANDS = (0.5, 0.75, 0.9, 0.95, 0.98)
"""Quantiles of the mean surprise, and of the number of unusual words: prompts between two of them share a feature."""


@dataclass(frozen=True)
class Separation:
    """How far the prompts of a group read unlike the others'."""

    inside: int
    """Rows of the group among the prompts that read most like theirs, at the best cut."""
    everywhere: int
    """All of those prompts."""
    log10_p: float
    """Of so many by chance (Fisher's exact test), corrected for the cuts that were tried (Bonferroni)."""


def style_separation(column: Column, groups: Sequence[Ints], active: Mask) -> list[Separation]:
    """How far each group's prompts read unlike the others'.

    Args:
        column: prompts. groups: the rows of each, ascending. active: [N] rows to count.
    """
    if not groups:
        return []
    others = np.flatnonzero(active)
    others = others[np.linspace(0, len(others) - 1, min(len(others), SAMPLED_ROWS)).astype(int)]
    rows = np.unique(np.concatenate([others, *groups]))
    features = _features(column, rows)
    no_others = Separation(len(rows), len(rows), 0.0)
    masks = [np.isin(rows, group) for group in groups]
    return [no_others if own.all() else _best_cut(_leave_one_out(features, own), own) for own in masks]


def _features(column: Column, rows: Ints) -> sparse.csr_array:
    """[n, m] which features each of n rows has: the unusual n-grams in two rows at least, and how surprising the prompt is as a whole,
    by its mean surprise and by its number of unusual words."""
    compared = np.zeros(len(column.starts) - 1, dtype=bool)
    compared[rows] = True
    held = []
    for first, stop in chunks(column):
        for found in map(once_per_row, ngrams(column, first, stop, WORDS)):
            keep = compared[found.rows] & (found.surprise >= UNUSUAL)
            held.append((found.rows[keep], found.hashes[keep]))
    row, key = (np.concatenate(part) for part in zip(*held, strict=True))
    keys, count = np.unique(key, return_counts=True)
    keys = keys[count > 1]
    keep = is_among(keys, key)
    place = np.searchsorted(rows, row[keep])
    of_ngrams = sparse.csr_array((np.ones(len(place)), (place, np.searchsorted(keys, key[keep]))), shape=(len(rows), len(keys)))
    begin, end = column.starts[rows], column.starts[rows + 1]
    mean_surprise = _sums(column.surprise, begin, end) / np.maximum(1, end - begin)
    unusual_words = _sums(column.surprise >= UNUSUAL, begin, end)
    every = sparse.csr_array(sparse.hstack([of_ngrams, _bands(mean_surprise), _bands(unusual_words)]))
    return every[:, every.sum(axis=0) > 0]


def _sums(values: NDArray[Any], begin: Ints, end: Ints) -> np.ndarray:
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    return total[end] - total[begin]


def _bands(values: np.ndarray) -> sparse.csr_array:
    """[n, bands] the band of each row's rank; ties in the order of the rows."""
    rank = np.argsort(np.argsort(values, kind="stable"), kind="stable") / len(values)
    band = np.searchsorted(BANDS, rank, side="right")
    return sparse.csr_array((np.ones(len(values)), (np.arange(len(values)), band)), shape=(len(values), len(BANDS) + 1))


def _leave_one_out(features: sparse.csr_array, own: Mask) -> np.ndarray:
    """[n] log-odds that each row is one of the group, by weights from all rows but itself.

    Args:
        features: [n, m]. own: [n] rows of the group.
    """
    n, c = len(own), int(own.sum())
    usual = SMOOTHING * features.sum(axis=0) / n
    inside = features[own].sum(axis=0)
    outside = features.sum(axis=0) - inside

    def weights(inside: np.ndarray, outside: np.ndarray, c: int, rest: int) -> np.ndarray:
        return np.log((inside + usual) / (c + SMOOTHING)) - np.log((outside + usual) / (rest + SMOOTHING))

    without_own = weights(np.maximum(0, inside - 1), outside, c - 1, n - c)
    without_other = weights(inside, np.maximum(0, outside - 1), c, n - c - 1)
    return np.where(own, features @ without_own, features @ without_other)  # pyright: ignore[reportReturnType] (scipy has no types)


def _best_cut(scores: np.ndarray, own: Mask) -> Separation:
    """Of the cuts at a score of one of the group's rows, the one with the lowest p. Tied rows are on one side."""
    order = np.argsort(-scores, kind="stable")
    cuts = np.searchsorted(-scores[order], -scores[own], side="right")
    inside = np.cumsum(own[order], dtype=np.int64)[cuts - 1]
    log10_p = log10_tail(len(own), int(own.sum()), inside, cuts) + np.log10(len(cuts))
    best = int(np.argmin(log10_p))
    return Separation(int(inside[best]), int(cuts[best]), min(0.0, float(log10_p[best])))
