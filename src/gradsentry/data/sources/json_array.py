"""A JSON array of objects, read as a stream: a scanner finds where the elements end without parsing them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from json import JSONDecodeError
from pathlib import Path
from typing import BinaryIO

from gradsentry.data.sources.common import open_binary
from gradsentry.data.sources.json_lines import parse_object
from gradsentry.data.sources.text import Frame, TextFormat, byte_order_mark
from gradsentry.errors import DataError
from gradsentry.types import Row

CHUNK = 1 << 20
_SPACE = b" \t\r\n"
_QUOTE, _COMMA = b'",'
_CLOSER = {ord("{"): ord("}"), ord("["): ord("]")}
_BETWEEN = re.compile(rb'[\[\]{},"]')
"""What matters between elements..."""
_WITHIN = re.compile(rb'[\[\]{}"]')
"""...and within one, where commas do not."""
_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
"""The rest of a string, up to its quote or the end of the chunk."""


def starts_array(path: Path) -> bool:
    """Whether the first byte of the file that is no space is ``[``."""
    return _first_byte(path, len(byte_order_mark(path)))[0] == b"["


def json_array(path: Path) -> TextFormat:
    """The format of a file for which `starts_array` holds."""
    bom = byte_order_mark(path)
    _, offset, line = _first_byte(path, len(bom))

    def frames(file: BinaryIO, offset: int, line: int) -> Iterator[Frame]:
        return elements(file, offset, line, path.name)

    return TextFormat("json", "json", "element", offset + 1, line, frames, _parse, bom + b"[\n", joiner=b",\n", tail=b"\n]\n")


def elements(file: BinaryIO, offset: int, line: int, name: str, chunk_size: int = CHUNK) -> Iterator[Frame]:
    """The elements of an array as raw bytes, from an offset behind its ``[`` or at the start of an element.

    Raises:
        DataError: Brackets do not match, the array is not closed, or something is missing or left over.
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
    """A closing bracket that closes nothing."""

    def __init__(self, at: int, message: str) -> None:
        super().__init__(message)
        self.at = at


class _Nesting:
    """How deep in the array the scanner stands; it is fed chunk after chunk."""

    def __init__(self) -> None:
        self.closed = False
        """Whether the array's own ``]`` was seen."""
        self._closers = bytearray()
        self._in_string = False
        self._escaped = False

    def ends(self, chunk: bytes) -> Iterator[int]:
        """Positions in the chunk of the commas behind elements and of the bracket that closes the array."""
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
            elif self._closes_array(byte, found.start()):
                yield found.start()
                return

    def _skip_string(self, chunk: bytes, at: int) -> int:
        """The position behind the string's closing quote, or the end of the chunk."""
        if self._escaped:
            self._escaped = False
            return at + 1
        found = _STRING.match(chunk, at)
        at = found.end() if found else at
        if at < len(chunk):
            self._in_string = chunk[at] != _QUOTE
            self._escaped = self._in_string  # a backslash that the chunk ends with
        return at + 1

    def _closes_array(self, byte: int, at: int) -> bool:
        self.closed = not self._closers
        expected = self._closers.pop() if self._closers else ord("]")
        if byte != expected:
            raise _Mismatch(at, f"{chr(byte)!r} stands where {chr(expected)!r} should close")
        return self.closed


def _first_byte(path: Path, offset: int) -> tuple[bytes, int, int]:
    """The first byte that is no space, its offset and its line."""
    line = 1
    with open_binary(path) as file:
        file.seek(offset)
        while (byte := file.read(1)) and byte in _SPACE:
            line += byte == b"\n"
        return byte, file.tell() - len(byte), line


def _frame(offset: int, line: int, data: bytes) -> Frame:
    """The element without the space around it."""
    lead = len(data) - len(data.lstrip(_SPACE))
    return Frame(offset + lead, line + data.count(b"\n", 0, lead), data.strip(_SPACE))


def _check_rest(file: BinaryIO, rest: bytes, line: int, name: str) -> None:
    """Nothing but space may follow the array."""
    for part in chain([rest], iter(lambda: file.read(CHUNK), b"")):
        text = part.lstrip(_SPACE)
        line += part.count(b"\n", 0, len(part) - len(text))
        if text:
            raise DataError(f"{name}:{line}: something follows the ']' that closes the array; remove it or that ']'")


def _parse(frame: Frame) -> Row:
    def spot(error: JSONDecodeError) -> str:
        byte = frame.offset + len(error.doc[: error.pos].encode())
        return f"line {frame.line + error.lineno - 1} (byte offset {byte})"

    return parse_object(frame.data, spot)
