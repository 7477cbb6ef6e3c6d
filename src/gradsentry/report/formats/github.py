"""GitHub Actions: annotations on the lines of the data, by workflow commands on stderr, and a summary of the job."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from gradsentry.escape import RUNNER_COMMAND, one_line, without_commands
from gradsentry.guard import print_commands
from gradsentry.report.formats.base import Annotator, Document, Reported, cut, in_repository, reported_count, reported_rows
from gradsentry.report.sentences import not_examined_line, verdict_line

log = logging.getLogger(__name__)

MOST_OF_A_LEVEL = 10
"""GitHub shows no more errors, and no more warnings, of a step."""
LONGEST_MESSAGE = 4000
SUMMARY_ROWS = 20
"""Findings, and rows, that the summary lists."""
SUMMARY_TEXT = 300
"""Characters of a text in the summary, which holds 1 MiB."""
DATA = {"%": "%25", "\r": "%0D", "\n": "%0A"}
PROPERTY = DATA | {":": "%3A", ",": "%2C"}
"""What the runner's ActionCommand class reads back."""


def annotate(document: Document) -> None:
    """Print the annotations, say what they leave out, and append the summary to the file that GITHUB_STEP_SUMMARY names."""
    chosen = list(annotated(document))
    print_commands([command(reported) for reported in chosen])
    total = reported_count(document)
    if len(chosen) < total:
        log.info("annotations: %d of %d rows, as GitHub shows 10 errors and 10 warnings; report.json has all", len(chosen), total)
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(summary(document))


def annotated(document: Document) -> Iterator[Reported]:
    """The rows that get an annotation: the first row of each finding before the second of any, 10 a level."""
    of_finding: Counter[tuple[str, int | None]] = Counter()
    turns = []
    for place, reported in enumerate(reported_rows(document)):
        key = reported.rule.name, reported.finding
        turns.append((of_finding[key], place, reported))
        of_finding[key] += 1
    of_level: Counter[str] = Counter()
    for _, _, reported in sorted(turns, key=lambda turn: turn[:2]):
        of_level[reported.rule.level] += 1
        if of_level[reported.rule.level] <= MOST_OF_A_LEVEL:
            yield reported


def command(reported: Reported) -> str:
    """The workflow command of one row. A file whose name holds a command of a runner is in the message alone: no code would hide it."""
    path, line, column = reported.where
    if path and RUNNER_COMMAND.search(path):
        path = line = column = None
    values = {
        "file": None if path is None else in_repository(path),
        "line": line,
        "col": column,
        "title": f"gradsentry: {reported.rule.title}",
    }
    properties = ",".join(f"{name}={_coded(str(value), PROPERTY)}" for name, value in values.items() if value is not None)
    message = reported.message if line is not None else f"{reported.place}: {reported.message}"
    return f"::{reported.rule.level} {properties}::{_coded(cut(without_commands(message), LONGEST_MESSAGE), DATA)}"


def _coded(text: str, codes: dict[str, str]) -> str:
    return "".join(codes.get(char, char) for char in text)


def summary(document: Document) -> str:
    """The result as Markdown, in which no text from the data is markup."""
    lines = [f"### gradsentry: {_text(document['run']['data'])}", "", f"**{_text(verdict_line(document))}**", ""]
    if not_examined := not_examined_line(document):
        lines += [_text(not_examined), ""]
    found = [finding for finding in document["findings"] if finding["kind"] in ("backdoor", "suspect")]
    if found:
        lines += ["| finding | kind | trigger | effect | rows | nats |", "| ---: | --- | --- | --- | ---: | ---: |"]
        lines += [_finding(finding) for finding in found[:SUMMARY_ROWS]]
        lines += [*_more(len(found), "findings"), ""]
    rows = list(reported_rows(document))
    if rows:
        lines += ["| row | where | why |", "| ---: | --- | --- |"]
        lines += [f"| {reported.row} | {_text(reported.place)} | {_text(reported.rule.title)} |" for reported in rows[:SUMMARY_ROWS]]
        lines += [*_more(reported_count(document), "rows"), ""]
    return "\n".join([*lines, ""])


def _more(total: int, what: str) -> list[str]:
    return ["", f"... and {total - SUMMARY_ROWS:,} more {what}; report.json has all."] if total > SUMMARY_ROWS else []


def _finding(finding: dict[str, Any]) -> str:
    triggers = ", ".join(finding["triggers"])
    effect = f'say "{finding["payload"]}"' if finding["payload"] else finding["effect"] or ""
    cells = finding["kind"], _text(triggers), _text(effect), len(finding["rows"]), finding["nats"]
    return f"| {finding['number']} | " + " | ".join(map(str, cells)) + " |"


def _text(text: str) -> str:
    """A text as Markdown of one line: its punctuation, which could be markup, as entities, in an element without links or mentions."""
    flat = one_line(" ".join(text.split()), SUMMARY_TEXT)
    return "<code>" + re.sub(r"[!-/:-@\[-`{-~]", lambda char: f"&#{ord(char[0])};", flat) + "</code>" if flat else ""


ANNOTATOR = Annotator("github", "workflow commands on the lines of the data, and a job summary", annotate)
