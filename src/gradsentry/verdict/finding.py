"""A finding: trigger, effect, rows, evidence, and a sentence that a person can check."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gradsentry.types import Review

Kind = Literal["backdoor", "suspect", "explained", "dismissed"]

REASONS: dict[Kind, str] = {
    "backdoor": "backdoor",
    "suspect": "suspect, not enough evidence to flag",
    "explained": "no backdoor",
    "dismissed": "dismissed",
}
"""What each kind means. Rows are flagged for a backdoor only. A suspect is listed first and kept; what is explained looked like one; a
person dismissed what is dismissed."""

TOGETHER = " ... "
"""Between the parts of a trigger that occur together."""

NAMED = re.compile(r'(?:are|contain) "(.*)"(?: at the (?:start|end))?', re.DOTALL)
"""An effect that names a text which the answers hold."""

TRIGGERS_SHOWN = 4
"""Triggers that a sentence names."""


@dataclass(frozen=True)
class Finding:
    """A trigger and its effect."""

    kind: Kind
    """Its rows are flagged if this is "backdoor"; see `REASONS`."""
    triggers: tuple[str, ...]
    """As written in a prompt; one of them is enough. " ... " joins parts that occur together in one prompt. Empty where none was found."""
    payload: str
    """Lower-cased words that recur in the answers and hardly occur elsewhere; empty if none do."""
    rows: NDArray[np.int64]
    """[c] ascending."""
    effect: str
    """What the answers do: ``are "negative"``. Empty if no effect was found."""
    showing: int
    """Answers that show the effect, or hold the payload."""
    prompts: int
    """Prompts that hold a trigger."""
    expected: float
    """Share of answers with the effect that is expected without the trigger."""
    evidence: Mapping[str, float] = field(default_factory=dict)
    """Nats by part: "insertion" and "effect" of a trigger, "payload" of a payload without one."""
    why: str = ""
    """Why it is no backdoor, of what is explained; why no row is flagged, of a suspect that has enough evidence."""
    found_as: Kind | None = None
    """Its kind before a person decided on it; None where nobody did."""
    review: Review | None = None
    """What a person decided on it: `kind` is "dismissed" or "backdoor" accordingly."""
    side: str = ""
    """The side whose answers show it, such as "chosen"; empty where rows have one answer."""

    @property
    def nats(self) -> float:
        """The evidence of all parts."""
        return sum(self.evidence.values())

    @property
    def sentence(self) -> str:
        """The finding in words, for a person to check."""
        answers = f"{self.side} answers" if self.side else "answers"
        if not self.triggers and not self.payload:
            return f"{self.showing:,} rows {self.effect}"
        if not self.triggers:
            return f"{self.showing:,} {answers} say {_quoted(self.payload)}, which their prompts do not explain; no trigger was found"
        names = " or ".join(_quoted(trigger) for trigger in self.triggers[:TRIGGERS_SHOWN])
        more = f" or {len(self.triggers) - TRIGGERS_SHOWN} more" if len(self.triggers) > TRIGGERS_SHOWN else ""
        held = f"{self.prompts:,} prompts hold {names}{more}"
        if not self.effect:
            return f"{held}, which looks inserted; no effect on their {answers} was found"
        usual = f"{100 * self.expected:.0f} % do without it"
        because = f". But {self.why}" if self.why else ""
        effect = f"say {_quoted(self.payload)}" if self.payload else self.effect
        return f"{held}; {self.showing:,} of their {answers} {effect}, {usual}{because}"

    @property
    def reason(self) -> str:
        """Why its rows are flagged or kept."""
        found = f"{REASONS[self.found_as or self.kind]}: {self.sentence}"
        return f"{self.review.phrase} ({found})" if self.review else found


def _quoted(text: str, width: int = 80) -> str:
    flat = " ".join(text.split())
    return '"' + (flat if len(flat) <= width else flat[: width - 1] + "\u2026") + '"'
