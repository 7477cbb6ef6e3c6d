"""A row's entropy beyond what its length explains: the entropy is bounded by the number of supervised tokens and mostly follows it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GROUP_ROWS = 50
"""Rows of similar length that give the usual entropy of that length."""

SIGMA_PER_MAD = 1.4826
"""Standard deviation of a normal distribution divided by its median absolute deviation."""

Values = NDArray[np.float64]


def beyond_length(entropies: Values, n_tokens: NDArray[np.int64]) -> Values:
    """[N] standard deviations of each entropy above the usual one of its length.

    The usual one is the median over rows of similar length, interpolated linearly in ln T. Poison does not move it while fewer than half
    of those rows are poisoned. The standard deviation is that of the whole set, from the median deviation of the rows below the usual one.

    Args:
        entropies: [N] of scored rows. n_tokens: [N] T of each.
    """
    if len(entropies) == 0:
        return np.empty(0)
    order = np.lexsort((entropies, n_tokens))
    groups = np.array_split(order, max(1, len(order) // GROUP_ROWS))
    # A row of one token has one singular value and entropy 0: this anchors the line below the first group's median.
    at = np.array([0.0, *(np.median(np.log(n_tokens[group])) for group in groups)])
    usual = np.array([0.0, *(np.median(entropies[group]) for group in groups)])
    at, first = np.unique(at, return_index=True)
    beyond = entropies - np.interp(np.log(n_tokens), at, usual[first])
    below = -beyond[beyond < 0]  # poison raises entropies, so only the deviations below are free of it
    spread = SIGMA_PER_MAD * float(np.median(below)) if len(below) else 0.0
    return beyond / spread if spread > 0 else np.zeros(len(beyond))
