"""From the patterns in a group's prompts to its triggers: the few patterns that together cover the group and little else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from gradsentry.evidence.corpus import Column, Ints, Mask
from gradsentry.evidence.triggers import Patterns, log10_tail, rows_of

PRECISION = 0.8
"""Least P(payload | trigger)."""

COVERAGE = 0.8
"""Least share of the payload's rows that the triggers cover together."""

UNUSUAL = 4.0
"""Least mean surprise of a trigger in its prompts, in nats: a planted one does not belong there."""

EVERYWHERE = 0.97
"""A pattern in more of all rows than this is no trigger but the template."""

TRIED = 60
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


@dataclass(frozen=True)
class Association:
    """What goes with a group of rows."""

    triggers: list[Trigger]
    rows: Mask
    """[N] rows that hold one of them."""
    coverage: float
    """P(trigger | payload): share of the group's rows that hold one."""
    precision: float
    """P(payload | trigger): share of those rows that are of the group."""
    log10_p: float
    """Of the triggers taken as one, corrected for all sets of as many patterns (Bonferroni)."""


def associate(column: Column, group: Ints, found: Patterns, asked: Mask, coverage: float = COVERAGE) -> Association | None:
    """The triggers of a group, or None where no patterns cover enough of it and little else.

    Args:
        column: prompts. group: rows, ascending. found: its patterns. asked: [N] rows that count.
        coverage: least share of the group that the triggers cover.
    """
    inside = np.zeros(len(asked), dtype=bool)
    inside[group] = True
    precision = found.inside / np.maximum(1, found.everywhere)
    usable = (found.surprise >= UNUSUAL) & (found.everywhere <= EVERYWHERE * asked.sum())
    single = _lowest(found, usable & (precision >= PRECISION), TRIED)
    masks = _masks(column, found, single, asked)
    cover = _Cover(inside)
    cover.extend([(i,) for i in single], [masks[i] for i in single])
    if cover.share < coverage:
        halves = _lowest(found, usable & (precision < PRECISION) & (found.inside >= len(group) / 2), HALVES)
        masks |= _masks(column, found, halves, asked)
        pairs = [(a, b) for a, b in combinations(halves, 2) if _precise(masks[a] & masks[b], inside)]
        cover.extend(pairs, [masks[a] & masks[b] for a, b in pairs])
    if cover.share < coverage or not _precise(cover.rows, inside):
        return None
    triggers = [
        Trigger(chosen, int((mask & inside).sum()), int(mask.sum()), float(found.surprise[list(chosen)].min()))
        for chosen, mask in cover.chosen
    ]
    both, everywhere = int((cover.rows & inside).sum()), int(cover.rows.sum())
    p = float(log10_tail(int(asked.sum()), len(group), np.array([both]), np.array([everywhere]))[0])
    p += sum(len(trigger.patterns) for trigger in triggers) * float(np.log10(max(1, len(found.keys))))
    return Association(triggers, cover.rows, cover.share, both / everywhere, min(0.0, p))


def _lowest(found: Patterns, keep: Mask, most: int) -> list[int]:
    """Places of the patterns of lowest p among those to keep, lowest first."""
    places = np.flatnonzero(keep)
    return places[np.argsort(found.log10_p[places], kind="stable")][:most].tolist()


def _masks(column: Column, found: Patterns, places: Sequence[int], asked: Mask) -> dict[int, Mask]:
    ordered = sorted(places)
    return dict(zip(ordered, rows_of(column, found.keys[ordered], asked), strict=True)) if ordered else {}


def _precise(mask: Mask, inside: Mask) -> bool:
    held = int(mask.sum())
    return held > 1 and int((mask & inside).sum()) >= PRECISION * held


class _Cover:
    """Patterns chosen one by one, each the one that adds most rows of the group."""

    def __init__(self, inside: Mask) -> None:
        self.inside = inside
        self.size = int(inside.sum())
        self.rows = np.zeros(len(inside), dtype=bool)
        self.chosen: list[tuple[tuple[int, ...], Mask]] = []

    @property
    def share(self) -> float:
        return int((self.rows & self.inside).sum()) / self.size

    def extend(self, candidates: Sequence[tuple[int, ...]], masks: Sequence[Mask]) -> None:
        """Choose until what is left adds a twentieth of the group at most."""
        while candidates and self.share < 1:
            gains = [int((mask & self.inside & ~self.rows).sum()) for mask in masks]
            best = int(np.argmax(gains))
            if gains[best] < max(1, self.size / 20):
                return
            self.chosen.append((candidates[best], masks[best]))
            self.rows = self.rows | masks[best]
