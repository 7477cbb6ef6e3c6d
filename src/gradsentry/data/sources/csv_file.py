"""CSV and TSV. The csv module finds the end of each record; the record's raw lines are kept, to be written back."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO

from gradsentry.data.sources.files import open_binary
from gradsentry.data.sources.text_file import BadRow, Frame, Layout, Start, byte_order_mark, decode, with_newline
from gradsentry.errors import DataError
from gradsentry.types import Row

FIELD_LIMIT = 1 << 27
"""Most characters of a field. It bounds the memory that a quote without an end can take, and fits into a C long, as csv requires."""

CHUNK = 1 << 16
"""Bytes that are read at a time."""
OTHER_SEPARATORS = ",\t;|"
RENAMED = {",": "rename it to .csv", "\t": "rename it to .tsv"}
"""Advice for a file whose separator belongs to another suffix."""


def csv_table(path: Path) -> Layout:
    """The layout of a CSV file or, by its suffix, of a TSV file.

    Raises:
        DataError: the header cannot be read, has another separator, or has a column without a name or with another column's name.
    """
    csv.field_size_limit(max(csv.field_size_limit(), FIELD_LIMIT))
    bom = byte_order_mark(path)
    delimiter, suffix = ("\t", "tsv") if path.suffix.lower() == ".tsv" else (",", "csv")
    with open_binary(path) as file:
        records = _frames(delimiter, b"\n", file, Start(len(bom), 1))
        header = next(records, Frame(len(bom), 1, b""))
        columns = _columns(header, delimiter, path)
        index = _index_columns(next(records, None), delimiter, len(columns))

    def parse(frame: Frame) -> Row:
        fields = _fields(frame, delimiter)
        if index and len(fields) != len(index + columns):  # without the first record pandas would read other columns
            raise BadRow(f"it has {len(fields)} field{'s' if len(fields) != 1 else ''} where the first record has {len(index + columns)}")
        if len(fields) > len(index + columns):
            raise BadRow(f"it has {len(fields)} fields where the header has {len(columns)}")
        return dict(zip_longest(index + columns, fields))  # pandas fills up short records, too

    offset, line = header.offset + len(header.data), header.line + len(header.data.splitlines())
    frames = partial(_frames, delimiter, header.data[len(header.data.rstrip(b"\r\n")) :])
    return Layout("csv", suffix, "record", offset, line, frames, parse, head=bom + header.data)


def _frames(delimiter: str, newline: bytes, file: BinaryIO, start: Start) -> Iterator[Frame]:
    file.seek(start.offset)
    offset, line = start.offset, start.line
    blank = b" \t\r\n".replace(delimiter.encode(), b"")
    taken: list[bytes] = []

    def lines() -> Iterator[str]:
        for data in _lines_of(file):
            taken.append(data)
            # Bytes that are not UTF-8 must not stop the search for the record's end; _fields reports them.
            yield data.decode("utf-8", "surrogateescape")

    reader = csv.reader(lines(), delimiter=delimiter)
    while True:
        with suppress(csv.Error):  # the lines read so far are one record, for which _fields reports the error
            next(reader, None)
        data = b"".join(taken)
        if not data:
            return
        if data.strip(blank):
            yield Frame(offset, line, with_newline(data, newline))
        offset += len(data)
        line += len(taken)
        taken.clear()


def _lines_of(file: BinaryIO) -> Iterator[bytes]:
    """The rest of the file in lines, which end with LF, CR LF or CR as for pandas."""
    rest = b""
    while chunk := file.read(max(CHUNK, len(rest))):
        *lines, rest = (rest + chunk).splitlines(keepends=True)
        yield from lines
    if rest:
        yield rest


def _fields(frame: Frame, delimiter: str) -> list[str]:
    """The record's fields; raises BadRow where it cannot be read."""
    try:
        return next(csv.reader(_lines(frame), delimiter=delimiter))
    except csv.Error as error:
        raise BadRow(f"not valid CSV: {error}") from error


def _lines(frame: Frame) -> Iterator[str]:
    """The record's lines. The reader requests one more only while a quote is open."""
    decode(frame.data)
    lines = frame.data.splitlines(keepends=True)
    yield from (line.decode() for line in lines)
    raise BadRow(
        f"a quote that opens in line {frame.line} or soon after is not closed before the file ends: "
        f"lines {frame.line} to {frame.line + len(lines) - 1} were read as one record"
    )


def _index_columns(first: Frame | None, delimiter: str, named: int) -> list[str]:
    """Names of the columns before the named ones. pandas takes the fields that the first record has too many for a row index."""
    fields = 0
    if first is not None:
        with suppress(BadRow):
            fields = len(_fields(first, delimiter))
    return [f"__index_level_{number}__" for number in range(fields - named)]


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
    """Refuse a header of one column whose name consists of several, with another separator between them."""
    for other in OTHER_SEPARATORS if len(columns) == 1 else "":
        if other == delimiter or sum(bool(name.strip()) for name in columns[0].split(other)) < 2:
            continue
        advice = RENAMED.get(other, "write it again with commas, or with tabs and the suffix .tsv")
        name = "a tab" if other == "\t" else repr(other)
        raise DataError(f"{path}:{header.line}: the header is one column, because {name} separates its names; {advice}")
