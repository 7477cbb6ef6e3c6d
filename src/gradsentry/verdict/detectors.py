"""Detectors: rows in words -> findings. A new detector is one file and one line in `DETECTORS`."""

from __future__ import annotations

from typing import Protocol

from gradsentry.verdict.evidence.detector import TriggeredPayloads
from gradsentry.verdict.finding import Finding
from gradsentry.verdict.words import WordSource


class Detector(Protocol):
    """Finds backdoors, and what only looks like one, in the words of all rows and their surprise."""

    def find(self, rows: WordSource) -> list[Finding]:
        """The findings, strongest first; those of kind "backdoor" before the others."""
        ...


DETECTORS: dict[str, Detector] = {
    "triggered-payloads": TriggeredPayloads(),
}
"""By name; the evidence policy runs all of them, in this order."""


def find_all(rows: WordSource) -> list[Finding]:
    """The findings of all detectors, backdoors first."""
    found = [finding for detector in DETECTORS.values() for finding in detector.find(rows)]
    return sorted(found, key=lambda finding: finding.kind != "backdoor")
