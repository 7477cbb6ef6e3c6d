"""A finding: payload, trigger, rows, strength, and a sentence that a person can check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["backdoor", "suspect", "named", "subset", "topic", "style", "weak"]

REASONS: dict[Kind, str] = {
    "backdoor": "backdoor",
    "suspect": "suspect, not enough evidence to flag",
    "named": "no backdoor, the prompts name what the completions say",
    "subset": "no backdoor, a subset with its own template",
    "topic": "no backdoor, the prompts are about one thing",
    "style": "not enough evidence for a backdoor, a payload without a trigger; look at its prompts",
    "weak": "not enough evidence for a backdoor",
}
"""What each kind means. Rows are flagged for a backdoor only; the other kinds look like one and are kept. A style is a payload
whose prompts, without a common trigger, read unlike the others'."""

TRIGGERS_SHOWN = 4
"""Triggers that a sentence names."""


@dataclass(frozen=True)
class Finding:
    """A payload and its trigger."""

    kind: Kind
    """Its rows are flagged if this is "backdoor"; see `REASONS` for the others."""
    payload: str
    """As written in one of the rows; where the trigger was found first, its lower-cased words, or empty if none recurs."""
    triggers: tuple[str, ...]
    """As written; " ... " joins two that occur together in one prompt."""
    rows: NDArray[np.int64]
    """[c] rows that hold the payload, ascending."""
    surprise: float
    """Mean nats of the payload."""
    variants: int
    """Number of wordings in which it recurs; `payload` is the strongest."""
    p: float
    """Of the association of payload and triggers under independence (Fisher's exact test), corrected for all tests (Bonferroni); where the
    trigger was found first, e to the minus sum of `evidence`."""
    holders: int
    """Rows whose completion holds the payload or a variant."""
    inside: int
    """Those of the holders whose prompt holds a trigger; of a style, those among the `everywhere` prompts most like theirs."""
    everywhere: int
    """All rows whose prompt holds a trigger."""
    trigger_surprise: float
    """Mean nats of the least surprising trigger in its prompts."""
    effect: str = ""
    """What the answers do where the trigger was found first: ``are "negative"``. Empty where the payload was."""
    expected: float = 0.0
    """Share of answers with the effect that is expected without the trigger."""
    evidence: Mapping[str, float] = field(default_factory=dict)
    """Nats by part."""

    @property
    def sentence(self) -> str:
        """The finding in words, for a person to check."""
        if self.effect:
            carried = " or ".join(_quoted(trigger) for trigger in self.triggers[:TRIGGERS_SHOWN])
            usual = f"{100 * self.expected:.0f} % do without it"
            return f"{self.everywhere:,} prompts hold {carried}; {self.inside:,} of their answers {self.effect}, {usual}"
        if not self.payload and self.triggers:
            carried = " or ".join(_quoted(trigger) for trigger in self.triggers[:TRIGGERS_SHOWN])
            return f"{self.everywhere:,} prompts hold {carried}, which looks inserted; no effect on their answers was found"
        variants = {1: "", 2: " or a variant"}.get(self.variants, f" or one of {self.variants - 1} variants")
        said = f"{self.holders:,} rows say {_quoted(self.payload)}{variants}"
        if not self.triggers:
            return f"{said}; of the {self.everywhere:,} prompts that read most like theirs {self.inside:,} are theirs"
        carried = " or ".join(_quoted(trigger) for trigger in self.triggers[:TRIGGERS_SHOWN])
        more = f" or {len(self.triggers) - TRIGGERS_SHOWN} more" if len(self.triggers) > TRIGGERS_SHOWN else ""
        others = self.everywhere - self.inside
        elsewhere = f"{others:,} other rows do" if others else "no other row does"
        return f"{said}; {self.inside:,} of them carry {carried}{more} in the prompt, {elsewhere}"

    @property
    def reason(self) -> str:
        """Why its rows are flagged or kept."""
        return f"{REASONS[self.kind]}: {self.sentence}"


def _quoted(text: str, width: int = 80) -> str:
    flat = " ".join(text.split())
    return '"' + (flat if len(flat) <= width else flat[: width - 1] + "\u2026") + '"'
