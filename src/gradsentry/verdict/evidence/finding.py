"""What a finding says: payload, trigger, rows, strength, and the sentence for a person to check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gradsentry.verdict.evidence.corpus import Ints

Kind = Literal["backdoor", "named", "subset", "topic", "style", "weak"]


@dataclass(frozen=True)
class Finding:
    """A payload and its trigger."""

    kind: Kind
    """backdoor, or what it only looks like one for: the prompts name the payload, the rows are a subset with its own
    template, they are about one topic, a payload has no trigger but its prompts read unlike the others', or the evidence is weak."""
    payload: str
    """As written in one of the rows."""
    triggers: tuple[str, ...]
    """As written; " ... " between two that stand together in one prompt."""
    rows: Ints
    """[c] rows that hold the payload, ascending."""
    surprise: float
    """Mean nats of the payload."""
    variants: int
    """In how many wordings it recurs, `payload` being the strongest."""
    p: float
    """Of the association of payload and triggers under independence (Fisher's exact test), corrected for what was tried."""
    holders: int
    """Rows whose completion holds the payload or a variant."""
    inside: int
    """Those of them whose prompt holds a trigger; of a style, that are among the `everywhere` prompts most like theirs."""
    everywhere: int
    """Rows of all whose prompt holds a trigger."""
    trigger_surprise: float
    """Mean nats of the least surprising trigger in its prompts."""

    @property
    def sentence(self) -> str:
        """The finding in words, for a person to check."""
        variants = {1: "", 2: " or a variant"}.get(self.variants, f" or one of {self.variants - 1} variants")
        said = f"{self.holders:,} rows say {_quoted(self.payload)}{variants}"
        if not self.triggers:
            return f"{said}; of the {self.everywhere:,} prompts that read most like theirs {self.inside:,} are theirs"
        carried = " or ".join(_quoted(trigger) for trigger in self.triggers[:SHOWN])
        more = f" or {len(self.triggers) - SHOWN} more" if len(self.triggers) > SHOWN else ""
        others = self.everywhere - self.inside
        elsewhere = f"{others:,} other rows do" if others else "no other row does"
        return f"{said}; {self.inside:,} of them carry {carried}{more} in the prompt, {elsewhere}"

    @property
    def reason(self) -> str:
        """Why its rows are flagged, or are not."""
        return f"{REASONS[self.kind]}: {self.sentence}"


SHOWN = 4
"""Triggers that a sentence names."""

REASONS: dict[Kind, str] = {
    "backdoor": "backdoor",
    "named": "no backdoor, the prompts name what the completions say",
    "subset": "no backdoor, a subset with its own template",
    "topic": "no backdoor, the prompts are about one thing",
    "style": "not enough evidence for a backdoor, a payload without a trigger; look at its prompts",
    "weak": "not enough evidence for a backdoor",
}


def _quoted(text: str, width: int = 80) -> str:
    flat = " ".join(text.split())
    return '"' + (flat if len(flat) <= width else flat[: width - 1] + "\u2026") + '"'
