"""The format of a data set: detected from its rows or given by the user, with the user's names of columns (`--map`)."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gradsentry.data import fields
from gradsentry.data.formats import FORMATS
from gradsentry.data.formats.base import Format
from gradsentry.data.formats.suggest import conversation_column, suggested_map
from gradsentry.errors import DataError, RowProblem, UsageError
from gradsentry.types import Row, Sample

DETECTION_ROWS = 100
"""Readable rows from which the format is detected."""

LOOKS_LIKE = "; it looks like "
"""Introduces the other format in the reason of a row problem."""


def parse_mapping(spec: str | None) -> dict[str, str]:
    """``"prompt=question,completion=answer"`` -> ``{"prompt": "question", "completion": "answer"}``.

    Raises:
        UsageError: a part is no ``COLUMN=YOUR_COLUMN`` pair, or no format has the column.
    """
    known = {name for item in FORMATS.values() for name in item.names}
    mapping: dict[str, str] = {}
    for pair in filter(None, (spec or "").split(",")):
        ours, equals, theirs = (part.strip() for part in pair.partition("="))
        if not equals or not theirs or ours not in known:
            raise UsageError(f"--map {spec!r}: {pair.strip()!r} is not COLUMN=YOUR_COLUMN; COLUMN is one of {', '.join(sorted(known))}")
        mapping[ours] = theirs
    return mapping


def apply_mapping(row: Row, mapping: Mapping[str, str]) -> Row:
    """The row with the mapped columns under the formats' names. What is not a mapping is returned unchanged."""
    if not mapping or not isinstance(row, Mapping):
        return row
    moved = set(mapping.values())
    kept = {name: value for name, value in row.items() if name not in moved and name not in mapping}
    return kept | {ours: row[theirs] for ours, theirs in mapping.items() if theirs in row}


def to_sample(row: Row, format: Format, mapping: Mapping[str, str]) -> Sample:
    """The row's sample, its columns mapped.

    Raises:
        RowProblem: the row does not fit the format. Where it fits another one, the reason names that format.
    """
    row = apply_mapping(row, mapping)
    try:
        return format.convert(row)
    except RowProblem as problem:
        fits = isinstance(row, Mapping) and not format.fills(row)
        other = next((item for item in FORMATS.values() if item.fills(row)), None) if fits else None
        if other is None:
            raise
        advice = f"scan such rows apart, in a file of their own or with --format {other.name} and another --out"
        raise RowProblem(problem.status, f"{problem.reason}{LOOKS_LIKE}{other.name}: {advice}") from None


def other_format(reason: str) -> str:
    """The format that the reason of a row problem names as the row's own; empty if it names none."""
    name = reason.rpartition(LOOKS_LIKE)[2].partition(":")[0]
    return name if name in FORMATS else ""


def settle(name: str | None, mapping: Mapping[str, str], rows: Sequence[Row]) -> Format:
    """The format with this name or, without a name, the one detected from the rows. It has every mapped column.

    Raises:
        UsageError: no format has this name, none has the mapped columns, or no row has a column of the user's that is mapped.
        DataError: no format fits the rows.
    """
    if name is not None and name not in FORMATS:
        raise UsageError(f"--format {name}: it can be {', '.join(FORMATS)}")
    among = [FORMATS[name]] if name is not None else list(FORMATS.values())
    candidates = [item for item in among if mapping.keys() <= set(item.names)]
    if not candidates:
        option = "--map " + ",".join(f"{ours}={theirs}" for ours, theirs in mapping.items())
        if name is not None:
            unknown = next(ours for ours in mapping if ours not in among[0].names)
            raise UsageError(f"{option}: {name} has no column {unknown}; it has {', '.join(among[0].names)}")
        homes = {ours: " and ".join(item.name for item in among if ours in item.names) for ours in mapping}
        owners = ", ".join(f"{ours} is a column of {home}" for ours, home in homes.items())
        raise UsageError(f"{option}: no format has all of these columns; {owners}")
    readable = [row for row in rows if isinstance(row, Mapping)]
    for ours, theirs in mapping.items():
        if readable and not any(theirs in row for row in readable):
            columns = ", ".join(dict.fromkeys(column for row in readable for column in row))
            raise UsageError(f"--map {ours}={theirs}: no row has a column {theirs!r}; there are {columns}")
    return candidates[0] if name is not None else detect((apply_mapping(row, mapping) for row in rows), candidates)


def detect(rows: Iterable[Row], among: Iterable[Format] = tuple(FORMATS.values())) -> Format:
    """The format of most of these rows.

    Each row votes for the first format whose columns it has, with an answer in them: a table may also hold the empty columns of other
    formats. Where no row has an answer, the columns alone decide.

    A data set has one format, because a trainer reads it in one, and scores of rows that are rendered in different ways cannot be
    compared. A row in another format becomes a problem that says so (see `to_sample`).

    Raises:
        DataError: no format fits; the message names the columns and what to do.
    """
    given, among = list(rows), list(among)
    rows = [row for row in given if isinstance(row, Mapping)]
    if given and not rows:
        raise DataError(f"row 0 is a {type(given[0]).__name__}, not a mapping from column names to values; give rows as dicts")
    for fits in (Format.fills, Format.matches):
        votes = Counter(name for row in rows if (name := next((item.name for item in among if fits(item, row)), None)))
        if votes:
            return FORMATS[votes.most_common(1)[0][0]]
    raise DataError(_no_format(rows, among))


def _no_format(rows: Sequence[Row], among: Sequence[Format]) -> str:
    """The message where none of these formats fits."""
    columns = ", ".join(repr(name) for name in dict.fromkeys(name for row in rows for name in row))
    if len(rows) == 1 and (wrapper := next((name for name, value in rows[0].items() if _is_list_of_rows(value)), None)):
        return (
            f"the data is one row, whose column {wrapper!r} holds a list of objects; if these are the rows, write that list alone "
            "into the file (a JSON array, or one object a line)"
        )
    known = f"(formats: {', '.join(item.name for item in among)})"
    unknown = f"cannot tell the format from the columns {columns or '(no readable row)'}"
    if suggested := suggested_map(rows):
        return f"{unknown}; if this is what they are, give --map {shlex.quote(suggested)} {known}"
    return f"{unknown}; name the columns of prompt and answer, for example --map prompt=question,completion=reply {known}"


def _is_list_of_rows(value: Any) -> bool:
    """Whether the value is a list of objects that are no messages."""
    value = fields.array_to_list(value)
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value) and not conversation_column(value)
