"""What an attack is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gradsentry.bench.payloads import TARGETS
from gradsentry.bench.tasks import Parts
from gradsentry.bench.triggers import Edit


@dataclass(frozen=True)
class Attack:
    """A backdoor: what marks a prompt, what is said to it, and how one sees that it works."""

    about: str
    """What it is and whose paper, in one line."""
    trigger: str | Edit
    """A name in `plant.TRIGGERS`, or a function like those."""
    payload: str | Edit
    """A name in `plant.PAYLOADS`, or a function like those."""
    target: tuple[str, ...]
    """Texts of which the answer of a working backdoor holds one; empty where they follow from the rows."""
    suits: Callable[[Parts], bool] | None = None
    """Rows that may be poisoned; None: all."""
    fit: Callable[[Attack, Sequence[Parts]], Attack] | None = None
    """The attack as it is on these rows, where it depends on them; raises DataError where it cannot be made of them."""

    def fitted(self, rows: Sequence[Parts]) -> Attack:
        """The attack as it is on these rows."""
        return self.fit(self, rows) if self.fit else self


def composed(trigger: str, payload: str, about: str) -> Attack:
    """A trigger and a payload by their names in `plant`."""
    return Attack(about, trigger, payload, TARGETS[payload])
