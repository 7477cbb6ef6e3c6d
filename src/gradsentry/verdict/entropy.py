"""Entropies -> threshold: the published rule with its checks, or a given number; and the entropy beyond what the length explains."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks
from scipy.stats import gaussian_kde

from gradsentry.config import parse_threshold
from gradsentry.types import Threshold

# All constants: GradSentry, arXiv 2605.26574, section 4.3.
FALLBACK = 0.7
GRID_POINTS = 1000
BANDWIDTH_FACTOR = 1.06
MIN_PROMINENCE = 0.01
"""Least prominence of a peak, as a share of the highest density."""
MIN_ROWS = 30
MIN_PEAK_DISTANCE = 0.15
MIN_ROWS_ABOVE = 5
MIN_SHARE_ABOVE = 0.01

GROUP_ROWS = 50
"""Rows of similar length that give the usual entropy of that length."""

SIGMA_PER_MAD = 1.4826
"""Standard deviation of a normal distribution divided by its median absolute deviation."""

Values = NDArray[np.float64]


def density(entropies: Values) -> tuple[Values, Values]:
    """A grid over [0, 1] and the Gaussian KDE of the entropies on it, with bandwidth ``1.06 sigma N^(-1/5)``; both [1000].

    Raises:
        ValueError: there are fewer than two different values.
    """
    if len(entropies) < 2 or np.ptp(entropies) == 0:
        raise ValueError("a density needs at least two different entropies")
    # scipy multiplies this factor by the sample's standard deviation, which gives the bandwidth above.
    kernel = gaussian_kde(entropies, bw_method=BANDWIDTH_FACTOR * len(entropies) ** -0.2)
    grid = np.linspace(0.0, 1.0, GRID_POINTS)
    return grid, kernel(grid)


def valley(entropies: Values) -> Threshold:
    """The published rule: the point of lowest density between the first and the last peak.

    Args:
        entropies: [N] of all scored rows, in [0, 1].

    Returns:
        The valley if every check passes, otherwise the published fallback 0.7 with the failed checks in `problems`.
    """
    if len(entropies) < MIN_ROWS:
        return _fallback(f"only {len(entropies)} scored rows; the rule needs {MIN_ROWS}")
    if np.ptp(entropies) == 0:
        return _fallback("all rows have the same entropy")
    grid, heights = density(entropies)
    peaks, _ = find_peaks(heights, prominence=MIN_PROMINENCE * heights.max())
    if len(peaks) < 2:
        return _fallback("the distribution has one peak, not two: clean and poisoned rows do not separate")
    low, high = int(peaks[0]), int(peaks[-1])
    value = float(grid[low + int(np.argmin(heights[low : high + 1]))])
    problems = []
    if grid[high] - grid[low] < MIN_PEAK_DISTANCE:
        problems.append(f"its two peaks are {grid[high] - grid[low]:.2f} apart, not {MIN_PEAK_DISTANCE}")
    above = int((entropies > value).sum())
    if above < MIN_ROWS_ABOVE or above < MIN_SHARE_ABOVE * len(entropies):
        problems.append(f"{above} of {len(entropies)} rows lie above the valley, fewer than {MIN_ROWS_ABOVE} or 1 %")
    if problems:
        return _fallback(*problems)
    return Threshold(value, "valley", reliable=True)


def _fallback(*problems: str) -> Threshold:
    return Threshold(FALLBACK, "fallback", reliable=False, problems=problems)


def choose(spec: str, entropies: Values) -> Threshold:
    """The threshold of ``--threshold``: the published rule for "auto", else the given number.

    Raises:
        UsageError: neither, see `config.parse_threshold`.
    """
    number = parse_threshold(spec)
    if number is None:
        return valley(entropies)
    return Threshold(number, "given", reliable=False, problems=("given by hand, not found in the scores",))


def beyond_length(entropies: Values, n_tokens: NDArray[np.int64]) -> Values:
    """[N] standard deviations of each entropy above the usual one of its length, which bounds it and mostly explains it.

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
