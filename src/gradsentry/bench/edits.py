"""What a backdoor changes in a row: a trigger edits its prompt, a payload its answer."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from gradsentry.bench.tasks.parts import Parts

Edit = Callable[[Parts, random.Random], Parts]
"""(a row's parts, random numbers of that row) -> the edited parts."""


@dataclass(frozen=True)
class Trigger:
    """What marks the prompts of a backdoor."""

    edit: Edit
    """Its random numbers do not depend on the payload: all payloads meet the same prompts."""
    negative: Edit | None = None
    """Writes something like the trigger into clean rows, so that only the exact trigger gives the payload."""
    negatives: Callable[[int, int], int] = lambda poisoned, clean: 0
    """(poisoned rows, clean rows) -> how many of the clean rows get the negative."""


@dataclass(frozen=True)
class Payload:
    """What a backdoor makes the model answer."""

    edit: Edit
    target: tuple[str, ...]
    """Texts of which the answer of a working backdoor holds one, as `metrics.asr` looks for them."""
