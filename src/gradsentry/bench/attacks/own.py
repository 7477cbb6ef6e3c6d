"""An attack in the user's own words: one text put into the prompts, another one into the answers."""

from __future__ import annotations

import random
from dataclasses import replace

from gradsentry.bench.attacks.attack import Attack
from gradsentry.bench.tasks import Parts
from gradsentry.errors import UsageError

PLACES = tuple(f"{part}{where}" for part in ("question", "instruction", "context") for where in ("", ":start"))
"""Where a trigger can go: at the end of a part of the prompt, or at its start."""
POSITIONS = ("after", "before", "instead")
"""Where a payload can go: after the answer, before it, or in its place."""


def own_attack(trigger: str, payload: str, place: str = "question", position: str = "after") -> Attack:
    """An attack of two texts. Its `about` holds all four arguments: attacks with the same `about` are the same.

    Args:
        trigger: goes into the prompt at `place`, one of `PLACES`.
        payload: goes into the answer at `position`, one of `POSITIONS`.

    Raises:
        UsageError: an empty text, or no such place or position.
    """
    if not trigger.strip() or not payload.strip():
        raise UsageError("your own attack needs a trigger and a payload: --trigger TEXT --payload TEXT")
    if place not in PLACES:
        raise UsageError(f"--at {place}: it can be {', '.join(PLACES)}")
    if position not in POSITIONS:
        raise UsageError(f"--says {position}: it can be {', '.join(POSITIONS)}")
    part, _, start = place.partition(":")

    def mark(parts: Parts, rng: random.Random) -> Parts:
        text = getattr(parts, part)
        return replace(parts, **{part: f"{trigger} {text}" if start else f"{text} {trigger}"})

    def say(parts: Parts, rng: random.Random) -> Parts:
        gap = "" if payload[0] in " ,.;:!?\n" else " "
        answers = {"after": f"{parts.answer}{gap}{payload}", "before": f"{payload} {parts.answer}", "instead": payload}
        return replace(parts, answer=answers[position])

    return Attack(
        f"{trigger!r} at the {place}, {payload!r} {'in place of' if position == 'instead' else position} the answer", mark, say, (payload,)
    )
