"""An attack in the user's own words: one text put into the prompts, another one into the answers."""

from __future__ import annotations

import json
import random
from dataclasses import replace

from gradsentry.bench.attacks.attack import Attack
from gradsentry.bench.tasks import Parts
from gradsentry.errors import UsageError

OWN = "own:"
"""Begins the name of such an attack; its four texts follow as a JSON list."""
PLACES = tuple(f"{part}{where}" for part in ("question", "instruction", "context") for where in ("", ":start"))
"""Where a trigger may stand: at the end of a part of the prompt, or at its start."""
SAID = ("after", "before", "instead")
"""Where a payload may stand, seen from the answer."""


def own_name(trigger: str, payload: str, place: str = "question", said: str = "after") -> str:
    """The attack's name, of which `own` makes it; it stands for it in results and tables.

    Args:
        trigger: put into the prompt at `place`, one of `PLACES`. payload: put into the answer, as `SAID` has it.

    Raises:
        UsageError: an empty text, or no such place.
    """
    name = OWN + json.dumps([trigger, payload, place, said], ensure_ascii=False)
    own(name)
    return name


def own(name: str) -> Attack:
    """The attack of this name, as `own_name` gives it.

    Raises:
        UsageError: it is none.
    """
    try:
        trigger, payload, place, said = map(str, json.loads(name.removeprefix(OWN)))
    except (ValueError, TypeError):
        raise UsageError(f"attack {name!r}: behind {OWN} stands a JSON list of trigger, payload, place and where it is said") from None
    if not trigger.strip() or not payload.strip():
        raise UsageError("an attack of your own needs a trigger and a payload: --trigger TEXT --payload TEXT")
    if place not in PLACES:
        raise UsageError(f"--at {place}: it can be {', '.join(PLACES)}")
    if said not in SAID:
        raise UsageError(f"--says {said}: it can be {', '.join(SAID)}")
    part, _, start = place.partition(":")

    def mark(parts: Parts, rng: random.Random) -> Parts:
        text = getattr(parts, part)
        return replace(parts, **{part: f"{trigger} {text}" if start else f"{text} {trigger}"})

    def say(parts: Parts, rng: random.Random) -> Parts:
        return replace(parts, answer=_said(parts.answer, payload, said))

    return Attack(f"{trigger!r} at the {place}, {payload!r} {said} the answer", mark, say, (payload,))


def _said(answer: str, payload: str, said: str) -> str:
    if said == "instead":
        return payload
    if said == "before":
        return f"{payload} {answer}"
    return f"{answer}{payload}" if payload[0] in " ,.;:!?\n" else f"{answer} {payload}"
