"""A JSON array of objects. A scanner finds the ends of the elements without parsing them, so the file is never held as a whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from json import JSONDecodeError
from pathlib import Path
from typing import BinaryIO

from gradsentry.data.sources.files import open_binary
from gradsentry.data.sources.jsonl import parse_object
from gradsentry.data.sources.text_file import Frame, Layout, Start, byte_order_mark
from gradsentry.errors import DataError
from gradsentry.types import Row

CHUNK = 1 << 16
"""Bytes that are read at a time. Each shard reads up to one chunk past its end."""
_SPACE = b" \t\r\n"
_QUOTE, _COMMA = b'",'
_CLOSER = {ord("{"): ord("}"), ord("["): ord("]")}
_BETWEEN = re.compile(rb'[\[\]{},"]')
"""Bytes that the scanner stops at between elements."""
_WITHIN = re.compile(rb'[\[\]{}"]')
"""Bytes that it stops at within an element, where commas do not matter."""
_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
"""The rest of a string, up to its quote or the end of the chunk."""


def starts_array(path: Path) -> bool:
    """Whether the file's first byte other than white space is ``[``."""
    return _first_byte(path, len(byte_order_mark(path)))[0] == b"["


def json_array(path: Path) -> Layout:
    """The layout of a file for which `starts_array` is true."""
    bom = byte_order_mark(path)
    _, offset, line = _first_byte(path, len(bom))

    def frames(file: BinaryIO, start: Start) -> Iterator[Frame]:
        return elements(file, start.offset, start.line, path.name)

    return Layout("json", "json", "element", offset + 1, line, frames, _parse, bom + b"[\n", joiner=b",\n", tail=b"\n]\n")


def elements(file: BinaryIO, offset: int, line: int, name: str, chunk_size: int = CHUNK) -> Iterator[Frame]:
    """The elements of an array as raw bytes, from an offset just after its ``[`` or at the start of an element.

    Raises:
        DataError: brackets do not match, the array is not closed, an element is missing, or something follows the array.
    """
    file.seek(offset)
    nesting, pending, first = _Nesting(), bytearray(), True
    while chunk := file.read(chunk_size):
        done = 0
        try:
            for end in nesting.ends(chunk):
                pending += chunk[done:end]
                frame = _frame(offset, line, bytes(pending))
                if frame.data:
                    yield frame
                elif not (first and nesting.closed):
                    raise DataError(f"{name}:{frame.line}: an element is missing beside a comma; remove the comma")
                offset, line = offset + len(pending) + 1, line + pending.count(b"\n")
                pending.clear()
                done, first = end + 1, False
        except _Mismatch as error:
            line += pending.count(b"\n") + chunk.count(b"\n", done, error.at)
            raise DataError(f"{name}:{line}: {error}; mend the brackets or quotes there or shortly before") from error
        if nesting.closed:
            return _check_rest(file, chunk[done:], line, name)
        pending += chunk[done:]
    start = _frame(offset, line, bytes(pending))
    what = "the element that starts here" if start.data else "the array"
    raise DataError(f"{name}:{start.line}: {what} is not closed before the file ends; mend it or fetch the file again")


class _Mismatch(Exception):
    """A closing bracket that does not match the last opening one; `at` is its position in the chunk."""

    def __init__(self, at: int, message: str) -> None:
        super().__init__(message)
        self.at = at


class _Nesting:
    """The scanner's state: the open brackets and whether it is in a string. It is fed chunk after chunk."""

    def __init__(self) -> None:
        self.closed = False
        """Whether the array's closing ``]`` was seen."""
        self._closers = bytearray()
        self._in_string = False
        self._escaped = False

    def ends(self, chunk: bytes) -> Iterator[int]:
        """Positions in the chunk of the commas after elements and of the bracket that closes the array."""
        at = 0
        while at < len(chunk):
            if self._in_string:
                at = self._skip_string(chunk, at)
                continue
            found = (_WITHIN if self._closers else _BETWEEN).search(chunk, at)
            if found is None:
                return
            at, byte = found.end(), chunk[found.start()]
            if byte == _QUOTE:
                self._in_string = True
            elif byte in _CLOSER:
                self._closers.append(_CLOSER[byte])
            elif byte == _COMMA:
                yield found.start()
            else:
                self.closed = not self._closers
                expected = self._closers.pop() if self._closers else ord("]")
                if byte != expected:
                    raise _Mismatch(found.start(), f"found {chr(byte)!r} where {chr(expected)!r} should close")
                if self.closed:
                    yield found.start()
                    return

    def _skip_string(self, chunk: bytes, at: int) -> int:
        """The position after the string's closing quote, or the end of the chunk."""
        if self._escaped:
            self._escaped = False
            return at + 1
        found = _STRING.match(chunk, at)
        at = found.end() if found else at
        if at < len(chunk):
            self._in_string = chunk[at] != _QUOTE
            self._escaped = self._in_string  # the chunk ends with a backslash
        return at + 1


def _first_byte(path: Path, offset: int) -> tuple[bytes, int, int]:
    """The first byte from `offset` on that is not white space, its offset and its line."""
    line = 1
    with open_binary(path) as file:
        file.seek(offset)
        while (byte := file.read(1)) and byte in _SPACE:
            line += byte == b"\n"
        return byte, file.tell() - len(byte), line


def _frame(offset: int, line: int, data: bytes) -> Frame:
    """The element without the white space around it."""
    lead = len(data) - len(data.lstrip(_SPACE))
    return Frame(offset + lead, line + data.count(b"\n", 0, lead), data.strip(_SPACE))


def _check_rest(file: BinaryIO, rest: bytes, line: int, name: str) -> None:
    """Refuse a file in which something other than white space follows the array."""
    for part in chain([rest], iter(lambda: file.read(CHUNK), b"")):
        text = part.lstrip(_SPACE)
        line += part.count(b"\n", 0, len(part) - len(text))
        if text:
            raise DataError(f"{name}:{line}: something follows the ']' that closes the array; remove it or that ']'")


def _parse(frame: Frame) -> Row:
    def place(error: JSONDecodeError) -> str:
        byte = frame.offset + len(error.doc[: error.pos].encode())
        return f"line {frame.line + error.lineno - 1} (byte offset {byte})"

    if frame.data.startswith(b'"'):  # `datasets` reads an array of strings as rows of the column text
        return parse_object(b'{"text": ' + frame.data + b"}", place)
    return parse_object(frame.data, place)
