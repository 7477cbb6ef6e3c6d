"""From the patterns in a group's prompts to its triggers: the few patterns that together cover the group and little else.

Where no single pattern does, pairs are tried: two patterns in one prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from gradsentry.verdict.evidence.corpus import Ints, Mask
from gradsentry.verdict.evidence.triggers import Patterns, log10_tail

UNUSUAL = 4.0
"""Least mean surprise of a trigger in its prompts, in nats: a planted trigger does not belong there."""

NEARLY_ALL = 0.97
"""A pattern or a pair in more than this share of all rows is part of the template and no trigger. Half of a pair is also limited to
this share of the rows without the payload: the clean negatives of a pair hold its halves."""

HALF_PRECISION = 0.05
"""Least P(payload | pattern) of half a pair."""

HALF_SHARE = 0.2
"""Least share of the payload's rows that hold half a pair: in a mixture of templates the half is another pattern in each template."""

TRIED = 100
"""Patterns tried as triggers: those with the lowest p."""
HALVES_TRIED = 16
"""Patterns tried as halves of pairs: those with the lowest p."""


@dataclass(frozen=True)
class Trigger:
    """One pattern, or two that occur together in a prompt."""

    patterns: tuple[int, ...]
    """Positions in `Patterns`."""
    surprise: float
    """Mean nats, of the less surprising of two."""
    example: int
    """A row of the group that holds it."""


@dataclass(frozen=True)
class Association:
    """The triggers of a group of rows."""

    triggers: list[Trigger]
    rows: Mask
    """[N] rows that hold one of the triggers."""
    inside: int
    """Rows of the group that hold one."""
    everywhere: int
    """Rows of all that hold one."""
    log10_p: float
    """Of the triggers taken as one, corrected for all sets of as many patterns (Bonferroni)."""

    def covers(self, rows: Ints) -> bool:
        """Whether enough of some rows hold a trigger."""
        return bool(self.rows[rows].mean() >= ONE_WORDING.coverage)


@dataclass(frozen=True)
class Bounds:
    """What the triggers of a group must reach."""

    precision: float
    """Least P(payload | trigger) if few rows hold the payload."""
    coverage: float
    """Least share of the group that the triggers cover together."""

    def least_precision(self, group: int, n_rows: int) -> float:
        """Least P(payload | trigger) if `group` of `n_rows` rows hold the payload.

        It bounds a trigger's share of the rows without the payload by a multiple of its share of all rows. In a mostly poisoned set
        every pattern would satisfy a constant bound.
        """
        return 1 - (1 - self.precision) * (1 - group / n_rows)


ONE_WORDING = Bounds(precision=0.8, coverage=0.8)
"""For a payload that recurs word for word."""

VARIANTS = Bounds(precision=0.75, coverage=0.3)
"""For several wordings taken as one: a cut on the score misses some of them, and includes spans that recur in clean rows."""


def patterns_to_try(group: Ints, found: Patterns, n_rows: int, bounds: Bounds) -> tuple[list[int], list[int]]:
    """Positions of the patterns to try as triggers, and of those to try as halves of pairs.

    Args:
        group: rows, ascending. found: its patterns. n_rows: rows in all.
    """
    precision = found.inside / np.maximum(1, found.everywhere)
    least = bounds.least_precision(len(group), n_rows)
    unusual = found.surprise >= UNUSUAL
    single = unusual & (precision >= least) & (found.everywhere <= NEARLY_ALL * n_rows)
    halves = unusual & (precision < least) & (precision >= HALF_PRECISION) & (found.inside >= HALF_SHARE * len(group))
    halves &= found.everywhere - found.inside <= NEARLY_ALL * (n_rows - len(group))
    return _lowest_p(found, single, TRIED), _lowest_p(found, halves, HALVES_TRIED)


def _lowest_p(found: Patterns, keep: Mask, most: int) -> list[int]:
    """Positions of the patterns of lowest p among those to keep, lowest first."""
    places = np.flatnonzero(keep)
    return places[np.argsort(found.log10_p[places], kind="stable")][:most].tolist()


def associate(group: Ints, found: Patterns, rows: Mapping[int, Ints], active: Mask, bounds: Bounds = ONE_WORDING) -> Association | None:
    """The triggers of a group; None if no patterns cover enough of it and little else.

    Args:
        group: rows, ascending. found: its patterns. rows: by key, the rows of every pattern in `patterns_to_try`. active: [N] rows to
            count.
    """
    in_group = np.zeros(len(active), dtype=bool)
    in_group[group] = True
    n_rows = int(active.sum())
    single, halves = patterns_to_try(group, found, n_rows, bounds)
    alone = {(i,): rows[int(found.keys[i])] for i in single}
    pairs = {pair: np.intersect1d(*(rows[int(found.keys[i])] for i in pair), assume_unique=True) for pair in combinations(halves, 2)}
    least = bounds.least_precision(len(group), n_rows)
    pairs = {
        pair: held
        for pair, held in pairs.items()
        if 1 < len(held) <= NEARLY_ALL * n_rows and int(in_group[held].sum()) >= least * len(held)
    }
    covers = [_cover(in_group, order) for order in ((alone, pairs), (pairs, alone)) if order[0]]
    tested = [_tested(cover, found, in_group, n_rows) for cover in covers]
    good = [one for one in tested if one.inside >= bounds.coverage * len(group) and one.inside >= least * one.everywhere]
    return min(good, key=lambda one: one.log10_p, default=None)


Cover = dict[tuple[int, ...], Ints]
"""Rows by pattern, or by the two patterns of a pair."""


def _cover(in_group: Mask, kinds: tuple[Cover, Cover]) -> Cover:
    """Choose patterns greedily, each the one that adds most rows of the group. Those of the second kind are used only if the first kind
    leaves much uncovered."""
    chosen: Cover = {}
    left = in_group.copy()
    size = int(in_group.sum())
    for kind, acceptable in zip(kinds, (0, (1 - ONE_WORDING.coverage) * size), strict=True):
        while int(left.sum()) > acceptable:
            gains = {pattern: (int(left[rows].sum()), -len(rows)) for pattern, rows in kind.items()}
            best = max(gains, key=lambda pattern: gains[pattern], default=None)
            if best is None or gains[best][0] < max(1, size / 20):  # a pattern must add a twentieth of the group
                break
            chosen[best] = kind[best]
            left[kind[best]] = False
    return chosen


def _tested(chosen: Cover, found: Patterns, in_group: Mask, n_rows: int) -> Association:
    """The chosen patterns as one trigger, with its p."""
    held = np.zeros(len(in_group), dtype=bool)
    for rows in chosen.values():
        held[rows] = True
    inside, everywhere = int((held & in_group).sum()), int(held.sum())
    triggers = [
        Trigger(pattern, float(found.surprise[list(pattern)].min()), int(rows[in_group[rows]][0])) for pattern, rows in chosen.items()
    ]
    p = float(log10_tail(n_rows, int(in_group.sum()), np.array([inside]), np.array([everywhere]))[0])
    p += sum(len(pattern) for pattern in chosen) * float(np.log10(max(1, len(found.keys))))
    return Association(triggers, held, inside, everywhere, min(0.0, p))
