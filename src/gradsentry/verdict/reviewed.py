"""What people decided on findings and rows, and the decision that follows.

A fingerprint identifies a finding or a row in any scan of any data. It depends on texts of the data alone: on no sentence of ours, no
tokenizer, no order of the rows, and no number of them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime

import pyarrow as pa

from gradsentry.types import Review
from gradsentry.verdict.combine import Decision, judge
from gradsentry.verdict.finding import NAMED, TOGETHER, Finding
from gradsentry.verdict.words import WORD

QUOTED = re.compile(r'"(.*)"', re.DOTALL)
"""The text that an effect names which the answers lack."""

LISTED = 10
"""Places that a note names."""


def fingerprint_of_row(sha256: str) -> str:
    """The fingerprint of a row. Args: sha256: as ``report.json`` has it."""
    return f"row:{sha256}"


def fingerprint_of(finding: Finding, row_sha256: Mapping[int, str | None]) -> str:
    """The fingerprint of a finding: its payload; without one, its triggers and what the answers say or lack; without words, its rows.

    A payload is the harm that a person judged, whichever triggers a scan finds for it; in another side of the rows it is another harm. The
    words are lower-cased, without white space.

    Args:
        row_sha256: row -> SHA-256 of the rows of a finding without words.
    """
    if finding.payload:
        identity = ["payload", _words(finding.payload)]
    elif finding.triggers:
        triggers = [[_words(part) for part in trigger.split(TOGETHER)] for trigger in finding.triggers]
        identity = ["trigger", sorted(map(sorted, triggers)), *_effect(finding.effect)]
    else:
        identity = ["rows", sorted(str(row_sha256.get(row)) for row in finding.rows.tolist())]
    identity += [finding.side] if finding.side else []
    return "finding:" + hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def _effect(effect: str) -> tuple[str, list[str]]:
    """What the answers do, without our words for it: they say a text, lack one, or differ in another way."""
    if named := NAMED.fullmatch(effect):
        return "says", _words(named[1])
    if quoted := QUOTED.search(effect):
        return "lacks", _words(quoted[1])
    return ("other" if effect else "none"), []


def _words(text: str) -> list[str]:
    return [match[0].lower() for match in WORD.finditer(text)]


def last_of(reviews: Iterable[Review]) -> dict[str, Review]:
    """Fingerprint -> the last decision on it, of those that were not taken back."""
    last = {review.fingerprint: review for review in reviews}
    return {fingerprint: review for fingerprint, review in last.items() if review.decision != "open"}


def reviewed(
    scores: pa.Table,
    decision: Decision,
    reviews: Sequence[Review],
    row_sha256: Mapping[int, str | None],
    today: date | None = None,
) -> Decision:
    """The decision after what people decided. Of several reviews of one fingerprint the last counts.

    Rows of a dismissed finding are kept, unless they belong to another backdoor; those of an accepted one are flagged. What was decided on
    a row alone precedes both. Notes name the reviews that have expired, and those that match nothing.

    Args:
        scores: [N] rows, columns of `schema.SCORES`, of which the decision was made.
        row_sha256: row -> SHA-256 of each row that is flagged or belongs to a suspect.
        today: in UTC, which is the default.
    """
    today = today or datetime.now(UTC).date()
    last = last_of(reviews)
    past = [review for review in last.values() if review.expires and review.expires < today]
    valid = {fingerprint: review for fingerprint, review in last.items() if review not in past}
    fingerprints = [fingerprint_of(finding, row_sha256) for finding in decision.findings]
    of_rows = {
        row: review
        for row, sha256 in sorted(row_sha256.items())
        if sha256 and (review := valid.get(fingerprint_of_row(sha256))) is not None
    }
    findings = [_decided(finding, valid.get(own), of_rows) for finding, own in zip(decision.findings, fingerprints, strict=True)]
    matched = {*fingerprints, *(review.fingerprint for review in of_rows.values())}
    notes = [
        f"{review.place}: the decision expired on {review.expires}; look again, then give a new date or delete the line" for review in past
    ]
    if unmatched := [review for fingerprint, review in valid.items() if fingerprint not in matched]:
        places = ", ".join(review.place for review in unmatched[:LISTED]) + (", ..." if len(unmatched) > LISTED else "")
        match = f"{len(unmatched):,} of {len(valid):,} decisions match no finding and no row of this scan"
        notes.append(f"{match} ({places}); delete those that no data need")
    verdicts, evidence = judge(scores, decision.threshold, decision.by_entropy, findings, of_rows)
    return replace(
        decision,
        verdicts=verdicts,
        evidence=evidence,
        findings=tuple(findings),
        row_reviews=of_rows,
        notes=(*decision.notes, *notes),
    )


def _decided(finding: Finding, review: Review | None, of_rows: Mapping[int, Review]) -> Finding:
    """The finding after a review of it, or of each of its rows. What is explained needs no dismissal."""
    own = [one for row in finding.rows.tolist() if (one := of_rows.get(row)) and one.decision == "dismissed"]
    if review is None and len(own) == len(finding.rows) > 0:
        review = replace(own[0], reason="each of its rows is dismissed")
    if review is None or (finding.kind == "explained" and review.decision == "dismissed"):
        return finding
    return replace(finding, kind="dismissed" if review.decision == "dismissed" else "backdoor", found_as=finding.kind, review=review)
