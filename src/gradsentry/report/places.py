"""Where the rows are that somebody has to look at, for machines: file, line, and a fingerprint of the row."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gradsentry.data.sources import Source
from gradsentry.data.sources.memory import json_line
from gradsentry.data.sources.shards import Visitor
from gradsentry.escape import one_line
from gradsentry.types import Record, Review, Row, Shard
from gradsentry.verdict.combine import Decision

_LINE = re.compile(r"(?P<file>.+?):(?P<line>\d+)(?::(?P<column>\d+))?")


class Place(NamedTuple):
    """A row's place, taken apart."""

    path: str | None
    """The file, as its name was given to the scan; the name of a saved or Hub data set; None for rows in memory."""
    line: int | None
    """From 1; None where rows have no lines of their own."""
    column: int | None
    """From 1, of a row that does not begin its line; None otherwise."""


def place_of(place: str, data: str) -> Place:
    """Take a place apart.

    Args:
        place: as in `Record.place`: ``data.jsonl:17``, ``data.jsonl:17:34`` or ``data.parquet row 16``. data: the name of the data.
    """
    base = re.split(r"[/\\]", data.rstrip("/\\"))[-1]
    rest = place.removeprefix(base)
    own = re.fullmatch(r":(?P<line>\d+)(?::(?P<column>\d+))?", rest) if rest != place else None
    found = own or _LINE.fullmatch(place)
    if found is None:
        return Place(None if re.match(r"row \d|(dataset|stream|table) (\w+ )?row \d", place) else data, None, None)
    path = data if own else f"{data.rstrip('/')}/{found['file']}"
    return Place(path, int(found["line"]), int(found["column"]) if found["column"] else None)


def row_sha256(value: Row) -> str:
    """SHA-256 of a row as JSON with sorted keys: its spacing, its order of columns and its file do not change it."""
    return hashlib.sha256(json_line(value, sort_keys=True).rstrip(b"\n")).hexdigest()


def review_document(review: Review | None) -> dict[str, str | None] | None:
    """What a person decided, as the document has it."""
    return review and {"decision": review.decision, "reason": review.reason, "expires": review.expires and review.expires.isoformat()}


class RowPlaces:
    """Places and hashes of all rows that are flagged, belong to a suspect, or are dismissed: a visitor, as `Previews` is."""

    def __init__(self, decision: Decision) -> None:
        self._flagged, self._findings, self._reviews = decision.flagged, decision.findings, decision.row_reviews
        self._finding: dict[int, int] = {}
        for kind in ("backdoor", "suspect", "dismissed"):
            for number, finding in enumerate(decision.findings, start=1):
                for row in finding.rows.tolist() if finding.kind == kind else ():
                    self._finding.setdefault(row, number)
        self.wanted = frozenset([*np.flatnonzero(self._flagged).tolist(), *self._finding, *self._reviews])
        self._rows: dict[int, tuple[str, str | None]] = {}

    def add(self, record: Record) -> None:
        """Keep the place of a wanted row."""
        if record.row in self.wanted:
            self._rows[record.row] = record.place, None if record.value is None else row_sha256(record.value)

    @property
    def sha256(self) -> dict[int, str | None]:
        """Row -> its SHA-256; None if it cannot be read."""
        return {row: sha256 for row, (_, sha256) in self._rows.items()}

    def listed(self, data: str) -> list[dict[str, Any]]:
        """The document's ``rows``, in order.

        Args:
            data: the name of the data.
        """
        return [self._line(row, data) for row in sorted(self._rows)]

    def _line(self, row: int, data: str) -> dict[str, Any]:
        place, sha256 = self._rows[row]
        found, number = place_of(place, data), self._finding.get(row)
        review = self._reviews.get(row) or (self._findings[number - 1].review if number else None)
        return {
            "row": row,
            "place": one_line(place),
            "path": None if found.path is None else one_line(found.path),
            "line": found.line,
            "column": found.column,
            "finding": number,
            "flagged": bool(self._flagged[row]),
            "review": review_document(review),
            "sha256": sha256,
        }


class Visitors:
    """Several visitors of one pass over the data."""

    def __init__(self, *visitors: Visitor) -> None:
        self._visitors = visitors
        self.wanted = frozenset().union(*(visitor.wanted for visitor in visitors))

    def add(self, record: Record) -> None:
        """Hand the record to those who want it."""
        for visitor in self._visitors:
            if record.row in visitor.wanted:
                visitor.add(record)

    def read(self, source: Source, shards: Sequence[Shard]) -> None:
        """Read the shards that hold wanted rows."""
        for shard in shards:
            if not self.wanted.isdisjoint(range(shard.start, shard.stop)):
                for record in source.read(shard):
                    self.add(record)
