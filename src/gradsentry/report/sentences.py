"""Sentences about a result that the console and the page share."""

from __future__ import annotations

from typing import Any

from gradsentry.escape import visible
from gradsentry.types import Threshold


def verdict_line(document: dict[str, Any]) -> str:
    """The result in one sentence."""
    counts, threshold = document["counts"], document["threshold"]
    if threshold is None:
        return f"Nothing could be scored in {_rows(counts['rows'])}."
    if counts["flagged"] == 0:
        suspects = sum(finding["kind"] == "suspect" for finding in document["findings"])
        if suspects:
            listed = "1 suspect is" if suspects == 1 else f"{suspects} suspects are"
            return f"No row flagged in {_rows(counts['scored'])}, but {listed} listed: look at them."
        if counts["scored"] < counts["rows"]:
            return f"Nothing found in the {_rows(counts['scored'])} that could be scored."
        return f"Nothing found in {counts['rows']:,} rows."
    share = 100 * counts["flagged"] / counts["rows"]
    return f"{counts['flagged']:,} of {counts['rows']:,} rows ({share:.1f} %) look poisoned."


def not_examined_line(document: dict[str, Any]) -> str:
    """How many rows were not scored, where they are, and why the first of them was not; empty if all rows were scored.

    The verdict does not cover them, and an attacker can make a row unreadable on purpose.
    """
    unscored = document["unscored"]
    if not unscored:
        return ""
    place, reason = unscored[0]["place"], " ".join(unscored[0]["reason"].split())
    first = reason if reason.startswith(place) else f"{place}: {reason}"
    count = document["counts"]["rows"] - document["counts"]["scored"]
    were, they, are = ("was", "it", "It is") if count == 1 else ("were", "they", "They are")
    return visible(f"{_rows(count)} {were} NOT examined: {they} could not be read or scored. {are} in kept. The first: {first}")


def entropy_line(document: dict[str, Any]) -> str:
    """What the published rule flags, or would flag; empty if there is no threshold."""
    if document["threshold"] is None:
        return ""
    threshold = Threshold(**document["threshold"])
    if document["run"]["by_entropy"]:
        return threshold_text(threshold)
    reliable = "reliable" if threshold.reliable else "not reliable"
    return f"entropy alone: {document['above_threshold']:,} rows lie above the published threshold ({reliable}); --strict flags them"


def threshold_text(threshold: Threshold) -> str:
    """``threshold 0.5530 (valley, reliable)``."""
    reliable = "reliable" if threshold.reliable else "not reliable: " + "; ".join(threshold.problems)
    return f"threshold {threshold.value:.4f} ({threshold.method}, {reliable})"


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"
