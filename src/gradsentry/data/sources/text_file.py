"""Text files as sources. A layout (JSON lines, JSON array, CSV) finds and parses the records; `TextSource` does the rest."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from gradsentry.data.sources.files import open_binary, sha256_of
from gradsentry.data.sources.shards import Visitor, cut_into_shards, with_parts
from gradsentry.errors import DataError
from gradsentry.types import Record, Row, Shard

UTF8_BOM = b"\xef\xbb\xbf"
NOT_UTF8 = {
    b"\xff\xfe": "UTF-16 or UTF-32, not UTF-8; re-encode it as UTF-8 (iconv -f UTF-16 -t UTF-8)",
    b"\xfe\xff": "UTF-16, not UTF-8; re-encode it as UTF-8 (iconv -f UTF-16 -t UTF-8)",
    b"\x1f\x8b": "compressed with gzip; unpack it and give the unpacked file",
}
"""What a file with these first bytes is, and what to do."""

LINE_END = re.compile(rb"\r\n?|\n")
"""The ends of lines as `datasets` and pandas see them."""
READ_BYTES = 1 << 20
"""Bytes that are read and hashed at a time."""


class BadRow(ValueError):
    """A record that cannot be parsed. The message says what is wrong with it."""


class Frame(NamedTuple):
    """The bytes of one record and their place in the file."""

    offset: int
    """Byte offset of the record's first byte."""
    line: int
    """Line of that byte, from 1."""
    data: bytes
    """The record's bytes; in a layout of lines with the line end (see `with_newline`)."""
    column: int = 1
    """Place of that byte in its line, from 1; above 1 where the line holds other records before it."""
    by_line_until: int = 0
    """Of `Start`."""


class Start(NamedTuple):
    """Where a layout begins to read: at the first byte of a record."""

    offset: int
    """Byte offset."""
    line: int
    """Line, from 1."""
    column: int = 1
    """Place in the line, from 1."""
    by_line_until: int = 0
    """Before this offset each record ends with its line: an object over several lines was looked for up to here and is broken."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How one kind of text file holds its records, and how such a file is written."""

    kind: str
    """`Source.kind`."""
    suffix: str
    """`Source.suffix`."""
    unit: str
    """The word for a record in messages: line, element, record."""
    offset: int
    """Byte offset at which the records begin, after a byte order mark and a header."""
    line: int
    """Line of that offset, from 1."""
    frames: Callable[[BinaryIO, Start], Iterator[Frame]]
    """Yields the records from this place to the end of the file."""
    parse: Callable[[Frame], Row]
    """Parses one record; raises BadRow."""
    head: bytes = b""
    """Written before the first record."""
    joiner: bytes = b""
    """Written between two records."""
    tail: bytes = b""
    """Written after the last record."""


class TextSource:
    """A text file in one of the layouts."""

    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, layout_of: Callable[[Path], Layout]) -> None:
        """`layout_of` finds the layout of the file; it is kept because a layout holds closures, which cannot be pickled."""
        layout = layout_of(path)
        self.name = str(path)
        self.kind = layout.kind
        self.suffix = layout.suffix
        self._path = path
        self._layout = layout
        self._layout_of = layout_of
        self._sha256: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return TextSource, (self._path, self._layout_of)

    def plan(self, shard_rows: int) -> list[Shard]:
        """Cut the file into shards. One pass over the file finds the records and computes the fingerprint."""
        layout, rows, starts = self._layout, 0, []
        with open_binary(self._path) as file:
            hashed = _HashingFile(file)
            reader = io.BufferedReader(hashed, READ_BYTES)
            reader.read(layout.offset)
            for rows, frame in enumerate(layout.frames(reader, Start(layout.offset, layout.line)), 1):
                if (rows - 1) % shard_rows == 0:
                    starts.append((frame.offset, frame.line, frame.column, frame.by_line_until))
            while reader.read(READ_BYTES):  # a layout need not read to the end
                pass
            self._sha256 = hashed.digest.hexdigest()
        shards = cut_into_shards(rows, shard_rows)
        return [Shard(shard.index, shard.start, shard.stop, *start) for shard, start in zip(shards, starts, strict=True)]

    def read(self, shard: Shard) -> Iterator[Record]:
        """The shard's rows, read from its byte offset on."""
        row = shard.start
        start = Start(shard.offset, shard.line, shard.column, shard.by_line_until)
        for frame in islice(self._frames(start), shard.stop - shard.start):
            yield self._record(row, frame)
            row += 1
        if row < shard.stop:
            raise DataError(f"{self.name}: it ends before row {row}, so it changed after it was opened; start again")

    def fingerprint(self) -> str:
        """SHA-256 of the file's bytes."""
        if self._sha256 is None:
            self._sha256 = sha256_of(self._path)
        return self._sha256

    def split(self, parts: Iterable[int], paths: Sequence[Path], visitor: Visitor | None = None) -> tuple[int, ...]:
        """Copy the bytes of each record to one of the files."""
        layout, counts = self._layout, [0] * len(paths)
        with ExitStack() as stack:
            outputs = [stack.enter_context(path.open("wb")) for path in paths]
            for row, (frame, part) in enumerate(with_parts(self._frames(Start(layout.offset, layout.line)), parts, self.name)):
                if visitor and row in visitor.wanted:
                    visitor.add(self._record(row, frame))
                outputs[part].write(layout.joiner if counts[part] else layout.head)
                outputs[part].write(frame.data)
                counts[part] += 1
            for output, count in zip(outputs, counts, strict=True):
                if not count:  # without rows the head is what the layout needs (a header, a bracket), without a byte order mark
                    output.write(layout.head.removeprefix(UTF8_BOM))
                output.write(layout.tail)
        return tuple(counts)

    def _frames(self, start: Start) -> Iterator[Frame]:
        with open_binary(self._path) as file:
            yield from self._layout.frames(file, start)

    def _record(self, row: int, frame: Frame) -> Record:
        place = f"{self._path.name}:{frame.line}" + (f":{frame.column}" if frame.column > 1 else "")
        try:
            return Record(row, place, self._layout.parse(frame))
        except BadRow as error:
            return Record(row, place, None, f"{place}: {error}; mend or remove the {self._layout.unit}")


class _HashingFile(io.RawIOBase):
    """A file that is read once from its start to its end, and hashed while it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file: Any = file
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(buffer)
        self.digest.update(memoryview(buffer)[:count])
        return count


def byte_order_mark(path: Path) -> bytes:
    """The UTF-8 byte order mark if the file begins with one, else nothing.

    Raises:
        DataError: the file begins like UTF-16, UTF-32 or gzip.
    """
    with open_binary(path) as file:
        start = file.read(3)
    if problem := NOT_UTF8.get(start[:2]):
        raise DataError(f"{path}: it is {problem}")
    return UTF8_BOM if start == UTF8_BOM else b""


def decode(data: bytes) -> str:
    """The record as text.

    Raises:
        BadRow: it is not UTF-8.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        byte = data[error.start]
        raise BadRow(f"not UTF-8: byte 0x{byte:02X} at position {error.start + 1}") from error


def with_newline(line: bytes, newline: bytes) -> bytes:
    """The line with a line end. The last line of a file may lack it; `newline` is the file's own."""
    return line if line.endswith((b"\n", b"\r")) else line + newline


def newline_of(data: bytes) -> bytes:
    """The line end of a file that begins with these bytes: LF, CR LF or CR."""
    found = LINE_END.search(data)
    return found.group() if found else b"\n"
