"""From the patterns in a group's prompts to its triggers: the few patterns that together cover the group and little else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from gradsentry.verdict.evidence.corpus import Ints, Mask
from gradsentry.verdict.evidence.triggers import Patterns, log10_tail

UNUSUAL = 4.0
"""Least mean surprise of a trigger in its prompts, in nats: a planted one does not belong there."""

EVERYWHERE = 0.97
"""What stands in more of all rows than this, a pattern or a pair, is no trigger but the template; and so is half of a pair in more
of the rows without the payload, whose clean negatives hold it too."""

RARE = 0.05
"""Least P(payload | pattern) of half a pair."""

HALF = 0.2
"""Least share of the payload's rows that half a pair stands in: in a mixture of templates its place is another pattern in each."""

TRIED = 100
"""Patterns that are looked at as triggers, and 16 as halves of pairs: those with the lowest p."""
HALVES = 16


@dataclass(frozen=True)
class Trigger:
    """One pattern, or two that stand in the prompt together."""

    patterns: tuple[int, ...]
    """Places in `Patterns`."""
    inside: int
    """Rows of the group that hold it."""
    everywhere: int
    """Rows of all that hold it."""
    surprise: float
    """Mean nats, of the less surprising of two."""
    example: int
    """A row of the group that holds it."""


@dataclass(frozen=True)
class Association:
    """What goes with a group of rows."""

    triggers: list[Trigger]
    rows: Mask
    """[N] rows that hold one of them."""
    inside: int
    """Rows of the group that hold one."""
    everywhere: int
    """Rows of all that hold one."""
    log10_p: float
    """Of the triggers taken as one, corrected for all sets of as many patterns (Bonferroni)."""


@dataclass(frozen=True)
class Bounds:
    """What the triggers of a group must reach."""

    precision: float
    """Least P(payload | trigger) where few rows hold the payload."""
    coverage: float
    """Least share of the group that the triggers cover together."""

    def least_precision(self, group: int, n_rows: int) -> float:
        """Least P(payload | trigger) where `group` of `n_rows` hold the payload: a trigger's share of rows without it is at most so
        many times that of all rows. A fixed bound any pattern would keep in a set that is mostly poisoned."""
        return 1 - (1 - self.precision) * (1 - group / n_rows)


ONE = Bounds(precision=0.8, coverage=0.8)
"""Of a payload that recurs word for word."""

VARIANTS = Bounds(precision=0.75, coverage=0.3)
"""Of several wordings taken as one: a cut leaves some of them out, and takes in what recurs in clean rows."""


def wanted(group: Ints, found: Patterns, n_rows: int, bounds: Bounds) -> tuple[list[int], list[int]]:
    """Places of the patterns that may be triggers of a group by themselves, and of those that may be in pairs.

    Args:
        group: rows, ascending. found: its patterns. n_rows: rows in all.
    """
    precision = found.inside / np.maximum(1, found.everywhere)
    least = bounds.least_precision(len(group), n_rows)
    unusual = found.surprise >= UNUSUAL
    single = unusual & (precision >= least) & (found.everywhere <= EVERYWHERE * n_rows)
    halves = unusual & (precision < least) & (precision >= RARE) & (found.inside >= HALF * len(group))
    halves &= found.everywhere - found.inside <= EVERYWHERE * (n_rows - len(group))
    return _lowest(found, single, TRIED), _lowest(found, halves, HALVES)


def associate(group: Ints, found: Patterns, rows: Mapping[int, Ints], asked: Mask, bounds: Bounds = ONE) -> Association | None:
    """The triggers of a group, or None where no patterns cover enough of it and little else.

    Args:
        group: rows, ascending. found: its patterns. rows: by key of a pattern, of all that `wanted` names. asked: [N] rows that
            count.
    """
    inside = np.zeros(len(asked), dtype=bool)
    inside[group] = True
    n_rows = int(asked.sum())
    single, halves = wanted(group, found, n_rows, bounds)
    alone = {(i,): rows[int(found.keys[i])] for i in single}
    pairs = {pair: np.intersect1d(*(rows[int(found.keys[i])] for i in pair), assume_unique=True) for pair in combinations(halves, 2)}
    least = bounds.least_precision(len(group), n_rows)
    pairs = {
        pair: held for pair, held in pairs.items() if 1 < len(held) <= EVERYWHERE * n_rows and int(inside[held].sum()) >= least * len(held)
    }
    ways = [_covered(inside, order) for order in ((alone, pairs), (pairs, alone)) if order[0]]
    judged = [_judged(way, found, inside, n_rows) for way in ways]
    good = [one for one in judged if one.inside >= bounds.coverage * len(group) and one.inside >= least * one.everywhere]
    return min(good, key=lambda one: one.log10_p, default=None)


Chosen = dict[tuple[int, ...], Ints]
"""Rows by pattern, or by the two patterns of a pair."""


def _covered(inside: Mask, kinds: tuple[Chosen, Chosen]) -> Chosen:
    """Patterns chosen one by one, each the one that adds most rows of the group; those of the second kind only where the
    first leaves much uncovered."""
    chosen: Chosen = {}
    left = inside.copy()
    size = int(inside.sum())
    for kind, enough in zip(kinds, (0, (1 - ONE.coverage) * size), strict=True):
        while int(left.sum()) > enough:
            gains = {pattern: (int(left[rows].sum()), -len(rows)) for pattern, rows in kind.items()}
            best = max(gains, key=lambda pattern: gains[pattern], default=None)
            if best is None or gains[best][0] < max(1, size / 20):
                break
            chosen[best] = kind[best]
            left[kind[best]] = False
    return chosen


def _judged(chosen: Chosen, found: Patterns, inside: Mask, n_rows: int) -> Association:
    """The chosen patterns taken as one."""
    held = np.zeros(len(inside), dtype=bool)
    for rows in chosen.values():
        held[rows] = True
    together, everywhere = int((held & inside).sum()), int(held.sum())
    triggers = []
    for pattern, own in chosen.items():
        mine = own[inside[own]]
        triggers.append(Trigger(pattern, len(mine), len(own), float(found.surprise[list(pattern)].min()), int(mine[0])))
    p = float(log10_tail(n_rows, int(inside.sum()), np.array([together]), np.array([everywhere]))[0])
    p += sum(len(pattern) for pattern in chosen) * float(np.log10(max(1, len(found.keys))))
    return Association(triggers, held, together, everywhere, min(0.0, p))


def _lowest(found: Patterns, keep: Mask, most: int) -> list[int]:
    """Places of the patterns of lowest p among those to keep, lowest first."""
    places = np.flatnonzero(keep)
    return places[np.argsort(found.log10_p[places], kind="stable")][:most].tolist()
