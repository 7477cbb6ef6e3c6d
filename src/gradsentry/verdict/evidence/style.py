"""How prompts read: what a bag of features tells of some rows where no pattern is their trigger. A style has no n-gram of its own.

The classifier is naive Bayes, linear in the features and regularised by smoothing towards the rate of each in all rows. Every row
is scored by the weights that the other rows give (leave-one-out), which naive Bayes has in closed form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from gradsentry.verdict.evidence.association import UNUSUAL
from gradsentry.verdict.evidence.corpus import Column, Ints, Mask, among, chunks, grams, once_a_row
from gradsentry.verdict.evidence.triggers import log10_tail

WORDS = 2
"""Words of the longest feature."""

SMOOTHING = 0.5
"""Rows of the usual kind that are added to each side's counts."""

OTHERS = 20_000
"""Rows, evenly spaced, that the groups are compared with."""

BANDS = (0.5, 0.75, 0.9, 0.95, 0.98)
"""Ranks among all rows between which prompts count as equally surprising."""


@dataclass(frozen=True)
class Apart:
    """How far the prompts of a group read unlike the others'."""

    inside: int
    """Rows of the group among the prompts that read most like theirs, at the best cut."""
    everywhere: int
    """All of those prompts."""
    log10_p: float
    """Of so many by chance (Fisher's exact test), corrected for the cuts that were tried (Bonferroni)."""


def apart(column: Column, groups: Sequence[Ints], asked: Mask) -> list[Apart]:
    """How far each group's prompts read unlike the others'.

    Args:
        column: prompts. groups: the rows of each, ascending. asked: [N] rows that count.
    """
    if not groups:
        return []
    others = np.flatnonzero(asked)
    others = others[np.linspace(0, len(others) - 1, min(len(others), OTHERS)).astype(int)]
    rows = np.unique(np.concatenate([others, *groups]))
    features = _features(column, rows)
    every = [np.isin(rows, group) for group in groups]
    nobody = Apart(len(rows), len(rows), 0.0)  # where all rows are the group's there is nobody to read unlike
    return [nobody if own.all() else _best_cut(_left_out(features, own), own) for own in every]


def _features(column: Column, rows: Ints) -> sparse.csr_array:
    """[n, m] which features each of some rows has: n-grams that are unusual where they stand, in two rows at least, and how
    surprising the prompt is as a whole, by its mean and by its number of unusual words."""
    compared = np.zeros(len(column.starts) - 1, dtype=bool)
    compared[rows] = True
    held = []
    for first, stop in chunks(column):
        for found in map(once_a_row, grams(column, first, stop, WORDS)):
            keep = compared[found.rows] & (found.surprise >= UNUSUAL)
            held.append((found.rows[keep], found.hashes[keep]))
    row, key = (np.concatenate(part) for part in zip(*held, strict=True))
    keys, count = np.unique(key, return_counts=True)
    keys = keys[count > 1]
    keep = among(keys, key)
    place = np.searchsorted(rows, row[keep])
    grammed = sparse.csr_array((np.ones(len(place)), (place, np.searchsorted(keys, key[keep]))), shape=(len(rows), len(keys)))
    begin, end = column.starts[rows], column.starts[rows + 1]
    whole = [
        (_summed(column.surprise, begin, end) / np.maximum(1, end - begin)),
        _summed(column.surprise >= UNUSUAL, begin, end),
    ]
    every = sparse.csr_array(sparse.hstack([grammed, *map(_bands, whole)]))
    return every[:, every.sum(axis=0) > 0]


def _summed(values: NDArray[Any], begin: Ints, end: Ints) -> np.ndarray:
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    return total[end] - total[begin]


def _bands(values: np.ndarray) -> sparse.csr_array:
    """[n, bands] the band of each row's rank, ties in the order of the rows."""
    rank = np.argsort(np.argsort(values, kind="stable"), kind="stable") / len(values)
    band = np.searchsorted(BANDS, rank, side="right")
    return sparse.csr_array((np.ones(len(values)), (np.arange(len(values)), band)), shape=(len(values), len(BANDS) + 1))


def _left_out(features: sparse.csr_array, own: Mask) -> np.ndarray:
    """[n] log-odds of each row being one of the group, by weights from all rows but itself.

    Args:
        features: [n, m]. own: [n] rows of the group.
    """
    n, c = len(own), int(own.sum())
    usual = SMOOTHING * features.sum(axis=0) / n
    inside = features[own].sum(axis=0)
    outside = features.sum(axis=0) - inside

    def weights(inside: np.ndarray, outside: np.ndarray, c: int, rest: int) -> np.ndarray:
        return np.log((inside + usual) / (c + SMOOTHING)) - np.log((outside + usual) / (rest + SMOOTHING))

    without_one = weights(np.maximum(0, inside - 1), outside, c - 1, n - c)
    without_other = weights(inside, np.maximum(0, outside - 1), c, n - c - 1)
    return np.where(own, features @ without_one, features @ without_other)  # pyright: ignore[reportReturnType] (no typed scipy)


def _best_cut(scores: np.ndarray, own: Mask) -> Apart:
    """The cut at one of the group's rows above which the group is the least likely to be by chance; ties are on one side."""
    order = np.argsort(-scores, kind="stable")
    cuts = np.searchsorted(-scores[order], -scores[own], side="right")
    inside = np.cumsum(own[order], dtype=np.int64)[cuts - 1]
    log10_p = log10_tail(len(own), int(own.sum()), inside, cuts) + np.log10(len(cuts))
    best = int(np.argmin(log10_p))
    return Apart(int(inside[best]), int(cuts[best]), min(0.0, float(log10_p[best])))
