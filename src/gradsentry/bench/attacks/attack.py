"""What an attack is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gradsentry.bench.payloads import PAYLOADS
from gradsentry.bench.tasks import Parts
from gradsentry.bench.tasks.parts import Edit


@dataclass(frozen=True)
class Attack:
    """A backdoor: its trigger, its payload, and how one sees that it works."""

    about: str
    """What it is and whose paper, in one line."""
    trigger: str | Edit
    """A name in `TRIGGERS`, or a function."""
    payload: str | Edit
    """A name in `PAYLOADS`, or a function."""
    target: tuple[str, ...]
    """Texts of which the answer of a working backdoor holds one; empty where they depend on the rows."""
    suits: Callable[[Parts], bool] | None = None
    """Which rows may be poisoned; None: all."""
    fit: Callable[[Attack, Sequence[Parts]], Attack] | None = None
    """The attack adapted to these rows, where it depends on them; raises DataError if they do not allow it."""


def composed(trigger: str, payload: str, about: str) -> Attack:
    """A trigger and a payload by their names.

    Raises:
        UsageError: there is no such payload.
    """
    return Attack(about, trigger, payload, PAYLOADS[payload].target)
