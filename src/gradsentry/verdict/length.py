"""What a row's entropy says beyond its length: entropy is bounded by, and mostly follows, the number of supervised tokens."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROWS = 50
"""Rows of like length that the usual entropy is taken from, where there are so many."""

SPREAD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""

Values = NDArray[np.float64]


def beyond_length(entropies: Values, n_tokens: NDArray[np.int64]) -> Values:
    """[N] how many standard deviations each entropy lies above the usual one of its length.

    The usual one is the median over rows of like length, joined linearly in ln T: it stays where it is while fewer than half
    of those rows are poisoned. The standard deviation is that of the whole set, from the median deviation of the rows below it.

    Args:
        entropies: [N] of scored rows. n_tokens: [N] T of each.
    """
    if len(entropies) == 0:
        return np.empty(0)
    order = np.lexsort((entropies, n_tokens))
    groups = np.array_split(order, max(1, len(order) // ROWS))
    # One token has one singular value, so that its entropy is 0: below the first group's middle there is no guessing.
    at = np.array([0.0, *(np.median(np.log(n_tokens[group])) for group in groups)])
    usual = np.array([0.0, *(np.median(entropies[group]) for group in groups)])
    at, first = np.unique(at, return_index=True)
    left = entropies - np.interp(np.log(n_tokens), at, usual[first])
    below = -left[left < 0]  # poison lengthens and flattens: what lies above may be it, what lies below is not
    spread = SPREAD * float(np.median(below)) if len(below) else 0.0
    return left / spread if spread > 0 else np.zeros(len(left))
