"""What a format of the report for machines is, and what all of them say about a row."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from gradsentry.report.places import Place, place_of

Document = dict[str, Any]
"""The content of ``report.json``."""

Level = Literal["error", "warning"]


@dataclass(frozen=True)
class FileFormat:
    """A format that ``--NAME FILE`` writes."""

    name: str
    help: str
    """For ``--help``: one sentence."""
    render: Callable[[Document], str]
    """The text of the file."""


@dataclass(frozen=True)
class Annotator:
    """A service that ``--annotate NAME`` speaks to."""

    name: str
    help: str
    annotate: Callable[[Document], None]


@dataclass(frozen=True)
class Rule:
    """Why a row is reported. Other programs know a rule by its name, which never changes."""

    name: str
    level: Level
    title: str
    help: str


RULES = (
    Rule(
        "backdoor",
        "error",
        "Row of a backdoor",
        "The row belongs to a finding: its prompt holds a trigger that looks inserted, and its answer shows an effect that similar prompts "
        "without the trigger do not have. Look at the finding in report.html; train without the row.",
    ),
    Rule(
        "entropy",
        "error",
        "Row above the entropy threshold",
        "The spectral entropy of the row's gradient is above the threshold that was chosen. Look at the row before you drop it.",
    ),
    Rule(
        "suspect",
        "warning",
        "Row of a suspect",
        "The row belongs to a finding with too little evidence to flag it. The row is kept; look at the finding in report.html.",
    ),
    Rule(
        "unexamined",
        "warning",
        "Row that was not examined",
        "The row could not be read or scored, so that nothing is known about it. An attacker can write such rows on purpose.",
    ),
)


@dataclass(frozen=True)
class Reported:
    """A row, and why it is reported."""

    rule: Rule
    row: int
    place: str
    """As `Record.place`."""
    where: Place
    message: str
    sha256: str | None
    finding: int | None
    """Its number, from 1."""
    dismissed: str | None = None
    """Why a person dismissed the row; None if nobody did."""


def reported_rows(document: Document) -> Iterator[Reported]:
    """All rows that are flagged, belong to a suspect, are dismissed, or were not examined: by rule, and within a rule in order."""
    rules = {rule.name: rule for rule in RULES}
    findings = {finding["number"]: finding for finding in document["findings"]}
    by_rule: dict[str, list[Reported]] = {name: [] for name in rules}
    for line in document["rows"]:
        finding = findings.get(line["finding"])
        name = _rule_of(line, finding)
        about = f"Finding {finding['number']}: {finding['sentence']}." if finding else _above(document)
        where = Place(line["path"], line["line"], line["column"])
        review = line["review"]
        decided = f" A person {review['decision']} it: {review['reason']}" if review else ""
        message = f"Row {line['row']}. {about}{decided}"
        dismissed = review["reason"] if review and review["decision"] == "dismissed" else None
        by_rule[name].append(Reported(rules[name], line["row"], line["place"], where, message, line["sha256"], line["finding"], dismissed))
    for line in document["unscored"]:
        where = place_of(line["place"], document["run"]["data"])
        message = f"Row {line['row']} was not examined: {line['reason']}"
        by_rule["unexamined"].append(Reported(rules["unexamined"], line["row"], line["place"], where, message, None, None))
    for found in by_rule.values():
        yield from found


def _rule_of(line: dict[str, Any], finding: dict[str, Any] | None) -> str:
    """The rule of a row; of a dismissed one, that which it would have without the dismissal."""
    if finding is None:
        return "entropy"
    kind = finding["found_as"] if finding["kind"] == "dismissed" else finding["kind"]
    if kind == "backdoor" or (line["review"] or {}).get("decision") == "accepted":
        return "backdoor"
    return "entropy" if line["flagged"] else "suspect"


def _above(document: Document) -> str:
    threshold = document["threshold"]
    return f"Its entropy is above the threshold {threshold['value']:.4f} ({threshold['method']})."


def reported_count(document: Document, dismissed: bool = False) -> int:
    """How many rows there are to report, those too that the document does not list. Args: dismissed: whether dismissed rows count."""
    listed = [line for line in document["rows"] if dismissed or (line["review"] or {}).get("decision") != "dismissed"]
    return len(listed) + document["counts"]["rows"] - document["counts"]["scored"]


def in_repository(path: str) -> str:
    """A path as a CI service knows it: relative to the root of the repository if it is below it, with slashes."""
    root = os.environ.get("GITHUB_WORKSPACE") or os.getcwd()
    relative = os.path.relpath(os.path.abspath(path), root)
    return (os.path.abspath(path) if relative.split(os.sep)[0] == ".." else relative).replace(os.sep, "/")


def cut(text: str, length: int) -> str:
    """The text with at most so many characters, in UTF-16 units, as GitHub counts them."""
    if len(text.encode("utf-16-le")) // 2 <= length:
        return text
    return text.encode("utf-16-le")[: 2 * (length - 1)].decode("utf-16-le", "ignore") + "\u2026"
