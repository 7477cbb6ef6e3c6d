"""SARIF 2.1.0, which code scanning services read: one result for each row that is flagged, suspect or not examined."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gradsentry.escape import json_text
from gradsentry.report.formats.base import RULES, Document, FileFormat, Reported, cut, in_repository, reported_count, reported_rows
from gradsentry.report.taxonomy import TAXONOMIES

log = logging.getLogger(__name__)

MOST_RESULTS = 5000
"""GitHub shows no more results of a run (docs.github.com, "SARIF results exceed limits")."""
LONGEST_TEXT = 1024
"""Characters of a description or message that GitHub takes."""
ROOT = "%SRCROOT%"
"""What paths are relative to: the root of the repository."""


def render(document: Document) -> str:
    """The text of a SARIF file."""
    return json_text(sarif(document)) + "\n"


def sarif(document: Document) -> dict[str, Any]:
    """A SARIF log with one run.

    Rows beyond GitHub's limit are left out, dismissed and least severe first; the log and a notification in the file say how many.
    """
    seen: Counter[tuple[str, str]] = Counter()
    dismissed_last = sorted(reported_rows(document), key=lambda reported: reported.dismissed is not None)
    results = [_result(reported, seen) for reported in dismissed_last[:MOST_RESULTS]]
    total = reported_count(document, dismissed=True)
    notes = []
    if total > len(results):
        note = f"{len(results):,} of {total:,} rows are in the SARIF file; report.json and verdicts.parquet have all"
        log.warning("%s", note)
        notes.append({"level": "warning", "message": {"text": note}})
    run = {
        "tool": {"driver": _driver(document)},
        "invocations": [{"executionSuccessful": document["threshold"] is not None, "toolExecutionNotifications": notes}],
        "automationDetails": {"id": f"gradsentry/{quote(document['run']['data'], safe='')}/"},
        "originalUriBaseIds": {ROOT: {"description": {"text": "The root of the repository."}}},
        "taxonomies": [
            {"name": name, "taxa": [{"id": number, **({"name": title} if title else {})} for number, title in ids.items()]}
            for name, ids in TAXONOMIES.items()
        ],
        "results": results,
        "columnKind": "unicodeCodePoints",
        "properties": {"counts": document["counts"], "model": document["run"]["model"], "policy": document["run"]["policy"]},
    }
    return {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}


def _driver(document: Document) -> dict[str, Any]:
    rules = [
        {
            "id": rule.name,
            "name": rule.title.title().replace(" ", ""),
            "shortDescription": {"text": rule.title},
            "fullDescription": {"text": cut(rule.help, LONGEST_TEXT)},
            "help": {"text": rule.help},
            "defaultConfiguration": {"level": rule.level},
            "properties": {"tags": ["security", "data-poisoning"]},
            **({} if rule.name == "unexamined" else {"relationships": _relationships()}),
        }
        for rule in RULES
    ]
    return {"name": "gradsentry", "semanticVersion": document["tool"]["version"], "rules": rules}


def _relationships() -> list[dict[str, Any]]:
    """The rule in the taxonomies of others."""
    names = [(name, number) for name, ids in TAXONOMIES.items() for number in ids]
    return [{"target": {"id": number, "toolComponent": {"name": name}}, "kinds": ["relevant"]} for name, number in names]


def _result(reported: Reported, seen: Counter[tuple[str, str]]) -> dict[str, Any]:
    """One row. `seen` counts the rows of a rule that are alike, whose fingerprints must differ."""
    result: dict[str, Any] = {
        "ruleId": reported.rule.name,
        "ruleIndex": RULES.index(reported.rule),
        "level": reported.rule.level,
        "message": {"text": cut(reported.message, LONGEST_TEXT)},
        "locations": [_location(reported)],
        "properties": {"row": reported.row} | ({} if reported.finding is None else {"finding": reported.finding}),
    }
    if reported.dismissed is not None:
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": cut(reported.dismissed, LONGEST_TEXT)}]
    if reported.sha256:
        key = reported.rule.name, reported.sha256
        seen[key] += 1
        result["partialFingerprints"] = {"rowSha256/v1": f"{reported.sha256}:{seen[key]}"}
    return result


def _location(reported: Reported) -> dict[str, Any]:
    """The line; where rows have no lines, their place in words, beside the file, which GitHub requires."""
    path, line, column = reported.where
    location: dict[str, Any] = {}
    if path is not None:
        region = {"startLine": line} | ({} if column is None else {"startColumn": column})
        location["physicalLocation"] = {"artifactLocation": _artifact(path), **({} if line is None else {"region": region})}
    if line is None:
        location["logicalLocations"] = [{"name": reported.place, "kind": "row"}]
    return location


def _artifact(path: str) -> dict[str, str]:
    own = in_repository(path)
    return {"uri": Path(own).as_uri()} if os.path.isabs(own) else {"uri": quote(own), "uriBaseId": ROOT}


FORMAT = FileFormat("sarif", "Write the rows as SARIF 2.1.0, which code scanning services read.", render)
