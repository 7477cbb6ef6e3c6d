"""Trigger association: the patterns in the prompts that go with some rows, with an exact test.

A pattern is up to `WORDS` neighbouring words, an edge of the prompt among them: a first or a last word is a pattern too.
Two patterns together are tried where one alone is not enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from gradsentry.verdict.evidence.corpus import Column, Floats, Grams, Hashes, Ints, Mask, among, chunks, grams, once_a_row

WORDS = 3
"""Words of the longest pattern."""

LOWEST = -290.0
"""log10 of a chance below which a double may have lost it."""

ASKED = 500
"""Rows of a group whose patterns are looked at: evenly spaced ones where it has more."""

SHARE = 0.1
"""Least share of a group's rows that a pattern stands in."""


@dataclass(frozen=True)
class Patterns:
    """Patterns in the prompts of one group of rows, m of them."""

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
    """log10 of the chance that of `everywhere` rows, drawn from `n_rows` at random, at least `inside` fall into a group of
    `group` rows: Fisher's exact test, one-sided."""
    inside, everywhere = np.asarray(inside), np.asarray(everywhere)
    with np.errstate(divide="ignore"):
        found = np.log10(hypergeom.sf(inside - 1, n_rows, group, everywhere))
    low = found < LOWEST  # beyond what a double holds; scipy's logarithm is exact there, and slow
    if low.any():
        found[low] = hypergeom.logsf(inside[low] - 1, n_rows, group, everywhere[low]) / np.log(10)
    return found


def patterns(column: Column, groups: Sequence[Ints], asked: Mask) -> list[Patterns]:
    """The patterns of each group's prompts, counted over all rows in one pass.

    Args:
        column: prompts. groups: the rows of each, ascending. asked: [N] rows that count.
    """

    @lru_cache(maxsize=4_000)
    def of_row(row: int) -> list[Grams]:
        return [once_a_row(found) for found in grams(column, row, row + 1, WORDS)]

    local = [_local(of_row, group) for group in groups]
    keys = np.unique(np.concatenate([own for own, _ in local] or [np.empty(0, np.uint64)]))
    places = [np.searchsorted(keys, own) for own, _ in local]
    everywhere = np.zeros(len(keys), np.int64)
    inside = [np.zeros(len(keys), np.int32) for _ in groups]
    for rows, place in holders(column, keys, asked):
        everywhere += np.bincount(place, minlength=len(keys))
        for own, group in zip(inside, groups, strict=True):
            own += np.bincount(place[_among(group, rows)], minlength=len(keys)).astype(np.int32)
    n_rows = int(asked.sum())
    found = []
    for (own, surprise), counts, at, group in zip(local, inside, places, groups, strict=True):
        held, all_rows = counts[at].astype(np.int64), everywhere[at]
        found.append(Patterns(own, surprise, held, all_rows, log10_tail(n_rows, len(group), held, all_rows)))
    return found


def _among(group: Ints, rows: Ints) -> Mask:
    """Whether each of some neighbouring rows is of the group; both ascending."""
    if len(rows) == 0:
        return np.zeros(0, dtype=bool)
    first = int(rows[0])
    own = group[np.searchsorted(group, first) : np.searchsorted(group, rows[-1], side="right")]
    held = np.zeros(int(rows[-1]) - first + 1, dtype=bool)
    held[own - first] = True
    return held[rows - first]


def _local(of_row: Callable[[int], list[Grams]], group: Ints) -> tuple[Hashes, Floats]:
    """Keys, ascending, and mean surprise of the patterns that stand in enough of the group's rows."""
    some = group[:: max(1, -(-len(group) // ASKED))]
    least = max(2, int(np.ceil(SHARE * len(some))))
    found = [own for row in some.tolist() for own in of_row(row)]
    hashes = np.concatenate([own.hashes for own in found] or [np.empty(0, np.uint64)])
    surprise = np.concatenate([own.surprise for own in found] or [np.empty(0, np.float32)])
    keys, where, count = np.unique(hashes, return_inverse=True, return_counts=True)
    mean = (np.bincount(where, weights=surprise, minlength=len(keys)) / np.maximum(count, 1)).astype(np.float32)
    return keys[count >= least], mean[count >= least]


def holders(column: Column, keys: Hashes, asked: Mask) -> Iterator[tuple[Ints, Ints]]:
    """(row, place in `keys`), each pair once, of the rows that hold one of the keys; in runs of rows, n by n."""
    for first, stop in chunks(column):
        for found in grams(column, first, stop, WORDS):
            keep = asked[found.rows]
            keep[keep] = among(keys, found.hashes[keep])
            pairs = found.rows[keep] * len(keys) + np.searchsorted(keys, found.hashes[keep])
            yield np.divmod(np.unique(pairs), max(1, len(keys)))


def rows_of(column: Column, keys: Hashes, asked: Mask) -> dict[int, Ints]:
    """Rows that hold each key, ascending; `keys` ascending."""
    rows: list[list[Ints]] = [[] for _ in keys]
    for held, place in holders(column, keys, asked):
        order = np.argsort(place, kind="stable")
        cuts = np.searchsorted(place[order], np.arange(len(keys) + 1))
        for own, (start, stop) in zip(rows, pairwise(cuts.tolist()), strict=True):
            if stop > start:
                own.append(held[order[start:stop]])
    nothing = np.empty(0, np.int64)
    return {int(key): np.concatenate(own) if own else nothing for key, own in zip(keys, rows, strict=True)}
