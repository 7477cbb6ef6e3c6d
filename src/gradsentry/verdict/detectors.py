"""Detectors: rows in words -> findings. A new detector is one file and one line in `DETECTORS`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from gradsentry.verdict.finding import REASONS, Finding
from gradsentry.verdict.planted.detector import PlantedTriggers
from gradsentry.verdict.words import WordSource

log = logging.getLogger(__name__)


class Detector(Protocol):
    """Finds backdoors, and what only looks like one, in the words of all rows and their surprise."""

    def find(self, rows: WordSource, note: Callable[[str], object]) -> list[Finding]:
        """The findings, strongest first; those of kind "backdoor" before the others.

        Args:
            note: called with a sentence where these rows give nothing to look for, so that finding nothing is not mistaken for an
                answer. The verdict shows it, and is "look" unless the published threshold is reliable.
        """
        ...


DETECTORS: dict[str, Detector] = {
    "planted-triggers": PlantedTriggers(),
}
"""By name; the evidence policy runs all of them, in this order."""

SAME = 0.5
"""Share of a finding's rows that backdoors found before it already flag, from which it tells nothing new."""


def find_all(rows: WordSource, note: Callable[[str], object] = log.warning) -> list[Finding]:
    """The findings of all detectors, merged; `note` as for `Detector.find`."""
    return merged(finding for detector in DETECTORS.values() for finding in detector.find(rows, note))


def find_in_sides(words: Callable[[str], WordSource], sides: Sequence[str], note: Callable[[str], object]) -> list[Finding]:
    """The findings in each side of the rows, which name their side; of rows with one answer, those of `find_all`.

    A backdoor may show in both sides, as swapped answers do, and is then listed for both. What is no backdoor is listed once.
    """
    if not sides:
        return find_all(words(""), note)
    found: list[Finding] = []
    for side in sides:
        for finding in find_all(words(side), lambda text, side=side: note(f"{side} answers: {text}")):
            if finding.kind == "backdoor" or all(set(finding.triggers).isdisjoint(other.triggers) for other in found):
                found.append(replace(finding, side=side))
    return sorted(found, key=lambda finding: (list(REASONS).index(finding.kind), -finding.nats))


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Findings of several detectors without those of rows that are flagged already: backdoors first, then suspects, then the others."""
    kept: list[Finding] = []
    flagged: set[int] = set()
    for finding in findings:
        own = set(finding.rows.tolist())
        if len(own & flagged) <= SAME * len(own):
            kept.append(finding)
            flagged |= own if finding.kind == "backdoor" else set()
    return sorted(kept, key=lambda finding: list(REASONS).index(finding.kind))
