"""Sentences about a result that the console and the page share."""

from __future__ import annotations

from typing import Any

from gradsentry.escape import visible
from gradsentry.types import Threshold


def verdict_line(document: dict[str, Any]) -> str:
    """The result in one sentence, of the document's `verdict`: nothing found, look, or poisoned."""
    counts = document["counts"]
    if document["threshold"] is None:
        return f"Nothing could be scored in {_rows(counts['rows'])}."
    if document["verdict"] == "poisoned":
        share = 100 * counts["flagged"] / counts["rows"]
        return f"{counts['flagged']:,} of {counts['rows']:,} rows ({share:.1f} %) look poisoned."
    if document["verdict"] == "nothing found":
        return f"Nothing found in {_rows(counts['rows'])}."
    suspects = sum(finding["kind"] == "suspect" for finding in document["findings"])
    if not document["answered"] and not suspects:
        return f"No answer for {_rows(counts['scored'])}: no rule can judge such rows, see the notes."
    open_questions = []
    if suspects:
        open_questions.append("1 suspect is listed" if suspects == 1 else f"{suspects} suspects are listed")
    if count := counts["unexamined"]:
        open_questions.append(f"{_rows(count)} {'was' if count == 1 else 'were'} not examined")
    return f"No row flagged in {_rows(counts['scored'])}, but {' and '.join(open_questions)}: look at them."


def not_examined_line(document: dict[str, Any]) -> str:
    """How many rows were not scored, where they are, and why the first of them was not; empty if all rows were scored.

    The verdict does not cover them, and an attacker can make a row unreadable on purpose.
    """
    unscored = document["unscored"]
    if not unscored:
        return ""
    place, reason = unscored[0]["place"], " ".join(unscored[0]["reason"].split())
    first = reason if reason.startswith(place) else f"{place}: {reason}"
    count = document["counts"]["unexamined"]
    were, they, are = ("was", "it", "It is") if count == 1 else ("were", "they", "They are")
    where = "in kept, as you chose" if document["run"]["keep_unexamined"] else "in unexamined, not in kept"
    return visible(f"{_rows(count)} {were} NOT examined: {they} could not be read or scored. {are} {where}. The first: {first}")


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
