"""CSV and TSV. The csv module decides where a record ends; its raw lines are kept beside, to be written back."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

from gradsentry.data.sources.common import open_binary
from gradsentry.data.sources.text import BadRow, Frame, TextFormat, byte_order_mark, closed, decode, newline_of
from gradsentry.errors import DataError
from gradsentry.types import Row

FIELD_LIMIT = 1 << 27
"""Characters in one field. It bounds the memory that a quote which is never closed can take; C's long holds it."""

OTHER_SEPARATORS = ",\t;|"
RENAMED = {",": "rename it to .csv", "\t": "rename it to .tsv"}
"""What to do about a file whose separator another suffix stands for."""


def csv_table(path: Path) -> TextFormat:
    """The format of a CSV file or, by its suffix, of a TSV file.

    Raises:
        DataError: The header cannot be read, has another separator, or leaves a column without a name of its own.
    """
    csv.field_size_limit(max(csv.field_size_limit(), FIELD_LIMIT))
    bom = byte_order_mark(path)
    delimiter, suffix = ("\t", "tsv") if path.suffix.lower() == ".tsv" else (",", "csv")
    with open_binary(path) as file:
        header = next(_frames(delimiter, b"\n", file, len(bom), 1), Frame(len(bom), 1, b""))
    columns = _columns(header, delimiter, path)

    def parse(frame: Frame) -> Row:
        fields = _fields(frame, delimiter)
        if len(fields) != len(columns):
            raise BadRow(f"{_count(len(fields))} where the header has {len(columns)}")
        return dict(zip(columns, fields, strict=True))

    return TextFormat(
        "csv",
        suffix,
        "record",
        header.offset + len(header.data),
        header.line + header.data.count(b"\n"),
        partial(_frames, delimiter, newline_of(header.data)),
        parse,
        head=bom + header.data,
    )


class _Tap:
    """Hands a file's lines to csv.reader and keeps the bytes of those that make up the current record."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._taken: list[bytes] = []

    def __iter__(self) -> Iterator[str]:
        for data in self._file:
            self._taken.append(data)
            # Undecodable bytes must not stop the search for the record's end; _fields reports them.
            yield data.decode("utf-8", "surrogateescape")

    def take(self) -> bytes:
        """The lines since the last call."""
        data = b"".join(self._taken)
        self._taken.clear()
        return data


def _frames(delimiter: str, newline: bytes, file: BinaryIO, offset: int, line: int) -> Iterator[Frame]:
    file.seek(offset)
    tap = _Tap(file)
    reader = csv.reader(tap, delimiter=delimiter)
    while True:
        with suppress(csv.Error):  # the lines read so far are one record, and _fields meets the same error in them
            next(reader, None)
        data = tap.take()
        if not data:
            return
        if data.strip(b" \r\n"):
            yield Frame(offset, line, closed(data, newline))
        offset += len(data)
        line += data.count(b"\n")


def _fields(frame: Frame, delimiter: str) -> list[str]:
    """The record's fields; raises BadRow where it cannot be read."""
    try:
        return next(csv.reader(_lines(frame), delimiter=delimiter))
    except csv.Error as error:
        raise BadRow(f"not valid CSV: {error}") from error


def _lines(frame: Frame) -> Iterator[str]:
    """The record's lines. The reader asks for one more only while it waits for a closing quote."""
    yield from io.StringIO(decode(frame.data), newline="\n")
    last = frame.line + frame.data.count(b"\n") - 1
    raise BadRow(
        f"a quote that opens in line {frame.line} or soon after is not closed before the file ends: "
        f"lines {frame.line} to {last} were read as one record"
    )


def _columns(header: Frame, delimiter: str, path: Path) -> list[str]:
    if not header.data:
        return []
    try:
        columns = _fields(header, delimiter)
    except BadRow as error:
        raise DataError(f"{path}:{header.line}: the header cannot be read: {error}") from error
    if "" in map(str.strip, columns):
        number = [*map(str.strip, columns)].index("") + 1
        raise DataError(
            f"{path}:{header.line}: column {number} of the header has no name; name or remove the column "
            "(pandas writes such a column for its index unless to_csv is given index=False)"
        )
    _refuse_other_separator(header, columns, delimiter, path)
    twice = [repr(column) for column, count in Counter(columns).items() if count > 1]
    if twice:
        raise DataError(f"{path}:{header.line}: the header names {', '.join(twice)} more than once; rename one of them")
    return columns


def _refuse_other_separator(header: Frame, columns: list[str], delimiter: str, path: Path) -> None:
    """A header of one column in which another separator stands between names is a header of several."""
    for other in OTHER_SEPARATORS if len(columns) == 1 else "":
        if other == delimiter or sum(bool(name.strip()) for name in columns[0].split(other)) < 2:
            continue
        advice = RENAMED.get(other, "write it again with commas, or with tabs and the suffix .tsv")
        name = "a tab" if other == "\t" else repr(other)
        raise DataError(f"{path}:{header.line}: the header is one column, as {name} stands between its names; {advice}")


def _count(number: int) -> str:
    return f"it has {number} field{'s' if number != 1 else ''}"
