"""JSON lines as `datasets` reads them: JSON objects one after the other. `parse_object` also parses the elements of a JSON array.

Most files have one object a line. But `datasets` also reads several objects on a line and an object laid out over lines, and it takes
CR as a line end. A scanner finds the end of each object by its brackets. Where that fails, the record is the rest of the line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from gradsentry.data.fields import Unreadable
from gradsentry.data.sources.files import open_binary
from gradsentry.data.sources.text_file import LINE_END, BadRow, Frame, Layout, Start, byte_order_mark, decode, newline_of, with_newline
from gradsentry.types import Row

CHUNK = 1 << 16
"""Bytes that are read at a time. Each shard reads up to one chunk past its end."""
LAID_OUT_BYTES = 10 << 20
"""Bytes in which an object over several lines must end. `datasets` reads 10 MiB at a time, up to a line end."""

_NAMES = {list: "an array", str: "a string", bool: "true or false", int: "a number", float: "a number", Unreadable: "a number"}
_WHITESPACE = re.compile(rb"[ \t\r\n\f\v]*+")
_SPACES = re.compile(rb"[ \t]*+")
_UP_TO_BRACKET = re.compile(rb'(?:[^][{}"]++|"(?:[^"\\\r\n]++|\\[^\r\n])*+")*+')
"""Everything up to the next bracket outside of strings. A string ends in its line."""
_OPEN_STRING = re.compile(rb'"(?:[^"\\\r\n]++|\\[^\r\n])*+\\?+')
_BRACE, _COLON, _QUOTE = b'{:"'
_CLOSER = {ord("{"): ord("}"), ord("["): ord("]")}
_NULL = b"null"
"""`datasets` reads it as a row without values."""


def json_lines(path: Path) -> Layout:
    """The layout of a JSON lines file."""
    bom = byte_order_mark(path)
    with open_binary(path) as file:
        newline = newline_of(file.read(CHUNK))
    return Layout("jsonl", "jsonl", "line", len(bom), 1, partial(objects, newline), _parse, head=bom)


def parse_object(data: bytes, place: Callable[[json.JSONDecodeError], str]) -> Row:
    """The JSON object that `data` holds; `place` names the place of a syntax error in the file.

    As for `datasets`, one value that cannot be read spoils its column only: an integer with too many digits becomes `Unreadable`,
    and bytes that are not UTF-8 become lone surrogates, which `fields.text` refuses.

    Raises:
        BadRow: it is not JSON, or not an object.
    """
    try:
        value = _DECODER.decode(data.decode("utf-8", "surrogateescape"))
    except json.JSONDecodeError as error:
        decode(data)  # if it is not UTF-8, that is the better reason
        what = error.msg.removesuffix(" at")  # some of its messages expect a position to follow
        raise BadRow(f"not valid JSON: {what} at {place(error)}") from error
    except RecursionError as error:
        raise BadRow("it is nested too deeply to be read") from error
    if not isinstance(value, dict):
        raise BadRow(f"it is {_NAMES.get(type(value), 'null')}, not a JSON object with named fields")
    return value


def objects(newline: bytes, file: BinaryIO, start: Start) -> Iterator[Frame]:
    """The records from a place on. Each one but the last of a line has its line's end; to the others `newline` is added."""
    file.seek(start.offset)
    data, at, ended, position = b"", 0, False, _Position(start)
    while True:
        until = position.by_line_until - (position.offset - at)
        cut = _cut(data, at, position.column > 1, until, ended)
        if cut is None:
            if ended:
                return
            chunk = file.read(max(CHUNK, len(data) - at))
            data, at, ended = data[at:] + chunk, 0, not chunk
            continue
        position.pass_over(data[at : cut.begin])
        record = data[cut.begin : cut.end]
        yield Frame(position.offset, position.line, with_newline(record, newline), position.column, position.by_line_until)
        if cut.scanned > cut.end:
            position.by_line_until = max(position.by_line_until, position.offset + cut.scanned - cut.begin)
        position.pass_over(record)
        at = cut.end


class _Position:
    """Offset, line and column in the file, and what `Start` has besides."""

    def __init__(self, start: Start) -> None:
        self.offset, self.line, self.column, self.by_line_until = start

    def pass_over(self, data: bytes) -> None:
        ends = data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")
        self.offset += len(data)
        self.line += ends
        self.column = len(data) - max(data.rfind(b"\n"), data.rfind(b"\r")) if ends else self.column + len(data)


class _Cut(NamedTuple):
    """A record in a part of the file."""

    begin: int
    end: int
    scanned: int
    """How far its end was looked for; beyond `end` where an object over several lines is broken."""


def _cut(data: bytes, at: int, within_line: bool, by_line_until: int, final: bool) -> _Cut | None:
    """The next record of `data` from `at` on; None if there is none, or if more bytes are needed to find its end.

    Args:
        within_line: whether other records of the line end at `at`.
        by_line_until: see `Start`, counted from the beginning of `data`.
        final: whether the file ends with `data`.
    """
    value = _match_end(_WHITESPACE, data, at)
    if value == len(data):
        return None
    begin = value if within_line else max(data.rfind(b"\n", at, value), data.rfind(b"\r", at, value), at - 1) + 1
    in_line = LINE_END.search(data, value) if value < by_line_until else None
    closed, scanned = _value_end(data, value, in_line.start() if in_line else len(data))
    limit = value + LAID_OUT_BYTES
    if max(closed or 0, scanned) > limit and LINE_END.search(data, value, limit):
        closed, scanned = None, limit
    elif closed is None and scanned == len(data) and not final:
        return None
    after = value
    if closed is not None:
        after = _match_end(_SPACES, data, closed)
        if after + len(_NULL) > len(data) and not final:
            return None
        if data[after : after + 1] == b"{" or data.startswith(_NULL, after):
            return _Cut(begin, closed, closed)
    line_end = LINE_END.search(data, after)  # what else follows in the line spoils the record
    end = line_end.end() if line_end else len(data)
    if end == len(data) and not final and not data.endswith(b"\n"):  # the line goes on, or a CR LF is cut in two
        return None
    return _Cut(begin, end, max(scanned, end))


def _value_end(data: bytes, at: int, stop: int) -> tuple[int | None, int]:
    """Where the object or null that begins at `at` ends, None if it has no end before `stop`; and how far the search went.

    It goes to `stop` where more bytes may help, and no further than to the first bracket or string that no JSON has there.
    """
    if data.startswith(_NULL, at, stop):
        return at + len(_NULL), at + len(_NULL)
    if data[at] != _BRACE:
        return None, stop if _NULL.startswith(data[at:stop]) else at
    closers = bytearray()
    while (at := _match_end(_UP_TO_BRACKET, data, at, stop)) < stop:
        byte = data[at]
        if byte == _QUOTE:
            return None, _match_end(_OPEN_STRING, data, at, stop)
        if byte in _CLOSER:
            if closers and not _may_open(data, at, closers[-1]):
                return None, at
            closers.append(_CLOSER[byte])
        elif closers.pop() != byte:
            return None, at
        elif not closers:
            return at + 1, at + 1
        at += 1
    return None, stop


def _may_open(data: bytes, at: int, closer: int) -> bool:
    """Whether an inner value may begin here: in an object after a colon, in an array after its bracket or a comma.

    Without this check a row that is cut off would swallow the rows after it.
    """
    at -= 1
    while data[at] in b" \t\r\n":
        at -= 1
    return data[at] == _COLON if closer == _CLOSER[_BRACE] else data[at] in b"[,"


def _match_end(pattern: re.Pattern[bytes], data: bytes, at: int, stop: int | None = None) -> int:
    """Where the match of a pattern that matches everywhere ends."""
    found = pattern.match(data, at, len(data) if stop is None else stop)
    return found.end() if found else at


def _integer(digits: str) -> int | Unreadable:
    try:
        return int(digits)
    except ValueError:  # Python reads no integers of thousands of digits
        return Unreadable("an integer with too many digits")


_DECODER = json.JSONDecoder(strict=False, parse_int=_integer)
"""Reads control characters in strings, as `datasets` does where a column has values of several types."""


def _parse(frame: Frame) -> Row:
    def place(error: json.JSONDecodeError) -> str:
        if error.lineno > 1:
            return f"line {frame.line + error.lineno - 1} column {error.colno}"
        return f"column {frame.column + error.colno - 1}"

    try:
        return parse_object(frame.data.rstrip(b"\r\n"), place)
    except BadRow as error:
        advice = _other_kind(frame.data.strip(), str(error)) if frame.line == 1 else ""
        raise BadRow(f"{error}{advice}") from error


def _other_kind(line: bytes, problem: str) -> str:
    """Advice where the first line is not a row because the file is CSV; else nothing."""
    if not line.startswith((b"{", b"[")) and problem.startswith("not valid JSON") and any(separator in line for separator in b",;\t"):
        return "; if the file is CSV, rename it to .csv (with tabs: .tsv)"
    return ""
