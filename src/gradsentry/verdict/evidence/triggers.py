"""Trigger association: the patterns of prompts that go with a group of rows, by an exact test.

A pattern is an n-gram of up to `WORDS` words. An edge of the prompt counts as a word, so that a first or last word is a pattern too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from gradsentry.verdict.evidence.corpus import Column, Floats, Hashes, Ints, Mask, NGrams, chunks, is_among, ngrams, once_per_row

WORDS = 3
"""Words of the longest pattern."""

LOWEST_LOG10 = -290.0
"""log10 of a chance below which a double may underflow."""

SAMPLED_ROWS = 500
"""Rows of a group from which patterns are taken: evenly spaced ones where it has more."""

SHARE = 0.1
"""Least share of a group's rows that hold a pattern."""


@dataclass(frozen=True)
class Patterns:
    """The m patterns in the prompts of one group of rows."""

    keys: Hashes
    """[m] ascending."""
    surprise: Floats
    """[m] mean nats of the pattern in the group's prompts."""
    inside: Ints
    """[m] rows of the group that hold it."""
    everywhere: Ints
    """[m] rows of all that hold it."""
    log10_p: NDArray[np.float64]
    """[m] of the association, see `log10_tail`."""


def log10_tail(n_rows: int, group: int, inside: Ints, everywhere: Ints) -> NDArray[np.float64]:
    """log10 of the chance that at least `inside` of `everywhere` rows, drawn at random from `n_rows`, belong to a group of `group` rows:
    Fisher's exact test, one-sided."""
    inside, everywhere = np.asarray(inside), np.asarray(everywhere)
    with np.errstate(divide="ignore"):
        found = np.log10(hypergeom.sf(inside - 1, n_rows, group, everywhere))
    low = found < LOWEST_LOG10  # scipy's logarithm is exact there, and slow
    if low.any():
        found[low] = hypergeom.logsf(inside[low] - 1, n_rows, group, everywhere[low]) / np.log(10)
    return found


def patterns_of(column: Column, groups: Sequence[Ints], active: Mask) -> list[Patterns]:
    """The patterns of each group's prompts, counted over all rows in one pass.

    Args:
        column: prompts. groups: the rows of each, ascending. active: [N] rows to count.
    """

    @lru_cache(maxsize=4_000)
    def of_row(row: int) -> list[NGrams]:
        return [once_per_row(found) for found in ngrams(column, row, row + 1, WORDS)]

    local = [_frequent(of_row, group) for group in groups]
    keys = np.unique(np.concatenate([own for own, _ in local] or [np.empty(0, np.uint64)]))
    everywhere = np.zeros(len(keys), np.int64)
    inside = [np.zeros(len(keys), np.int32) for _ in groups]
    for rows, place in _holders(column, keys, active):
        everywhere += np.bincount(place, minlength=len(keys))
        for own, group in zip(inside, groups, strict=True):
            own += np.bincount(place[_are_in(group, rows)], minlength=len(keys)).astype(np.int32)
    n_rows = int(active.sum())
    found = []
    for (own, surprise), counts, group in zip(local, inside, groups, strict=True):
        place = np.searchsorted(keys, own)
        held, all_rows = counts[place].astype(np.int64), everywhere[place]
        found.append(Patterns(own, surprise, held, all_rows, log10_tail(n_rows, len(group), held, all_rows)))
    return found


def _are_in(group: Ints, rows: Ints) -> Mask:
    """Whether each of some rows of one chunk is in the group; both ascending."""
    if len(rows) == 0:
        return np.zeros(0, dtype=bool)
    first = int(rows[0])
    own = group[np.searchsorted(group, first) : np.searchsorted(group, rows[-1], side="right")]
    held = np.zeros(int(rows[-1]) - first + 1, dtype=bool)
    held[own - first] = True
    return held[rows - first]


def _frequent(of_row: Callable[[int], list[NGrams]], group: Ints) -> tuple[Hashes, Floats]:
    """Keys, ascending, and mean surprise of the patterns that enough of the group's rows hold."""
    some = group[:: max(1, -(-len(group) // SAMPLED_ROWS))]
    least = max(2, int(np.ceil(SHARE * len(some))))
    found = [own for row in some.tolist() for own in of_row(row)]
    hashes = np.concatenate([own.hashes for own in found] or [np.empty(0, np.uint64)])
    surprise = np.concatenate([own.surprise for own in found] or [np.empty(0, np.float32)])
    keys, where, count = np.unique(hashes, return_inverse=True, return_counts=True)
    mean = (np.bincount(where, weights=surprise, minlength=len(keys)) / np.maximum(count, 1)).astype(np.float32)
    return keys[count >= least], mean[count >= least]


def _holders(column: Column, keys: Hashes, active: Mask) -> Iterator[tuple[Ints, Ints]]:
    """(row, place in `keys`) of the active rows that hold one of the keys, each pair once: for each chunk and each n."""
    for first, stop in chunks(column):
        for found in ngrams(column, first, stop, WORDS):
            keep = active[found.rows]
            keep[keep] = is_among(keys, found.hashes[keep])
            pairs = found.rows[keep] * len(keys) + np.searchsorted(keys, found.hashes[keep])
            yield np.divmod(np.unique(pairs), max(1, len(keys)))


def rows_by_key(column: Column, keys: Hashes, active: Mask) -> dict[int, Ints]:
    """The active rows that hold each key, ascending; `keys` ascending."""
    rows: list[list[Ints]] = [[] for _ in keys]
    for held, place in _holders(column, keys, active):
        order = np.argsort(place, kind="stable")
        cuts = np.searchsorted(place[order], np.arange(len(keys) + 1))
        for own, (start, stop) in zip(rows, pairwise(cuts.tolist()), strict=True):
            if stop > start:
                own.append(held[order[start:stop]])
    return {int(key): np.concatenate([np.empty(0, np.int64), *own]) for key, own in zip(keys, rows, strict=True)}
