"""Attacks: small functions that poison question/answer rows; one file each, one line here."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gradsentry.bench.attacks.badnets import badnets
from gradsentry.errors import UsageError

ATTACKS = {"badnets": badnets}
"""Every attack by its name: ``(row, random) -> poisoned row``."""


@dataclass(frozen=True)
class Poisoned:
    """A data set with poison in it and the truth beside it."""

    rows: list[dict[str, Any]]
    """All rows, poisoned ones where they stood."""
    labels: list[bool]
    """True for the poisoned rows; never part of `rows`."""


def poison(rows: Sequence[dict[str, Any]], attack: str, ratio: float, seed: int) -> Poisoned:
    """Poison a random `ratio` of the rows in place of their clean versions.

    Raises:
        UsageError: an unknown attack, or a ratio that leaves no clean or no poisoned row.
    """
    if attack not in ATTACKS:
        raise UsageError(f"attack {attack!r} is unknown; there are {', '.join(ATTACKS)}")
    count = round(ratio * len(rows))
    if not 0 < count < len(rows):
        raise UsageError(f"a poison ratio of {ratio} leaves {count} of {len(rows)} rows poisoned; some must be and some not")
    rng = random.Random(seed)
    chosen = set(rng.sample(range(len(rows)), count))
    return Poisoned(
        [ATTACKS[attack](row, rng) if i in chosen else row for i, row in enumerate(rows)],
        [i in chosen for i in range(len(rows))],
    )
