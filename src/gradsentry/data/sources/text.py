"""Text files as sources. A text format frames records as bytes; this module shards, reads and splits any of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from gradsentry.data.sources.common import cut, open_binary, paired, sha256_of
from gradsentry.errors import DataError
from gradsentry.types import Record, Row, Shard

UTF8_BOM = b"\xef\xbb\xbf"
_FOREIGN = {
    b"\xff\xfe": "UTF-16 or UTF-32, not UTF-8; re-encode it as UTF-8 (iconv -f UTF-16 -t UTF-8)",
    b"\xfe\xff": "UTF-16, not UTF-8; re-encode it as UTF-8 (iconv -f UTF-16 -t UTF-8)",
    b"\x1f\x8b": "compressed with gzip; unpack it and give the unpacked file",
}


class BadRow(ValueError):
    """One record cannot be parsed; the message says what is wrong with it."""


class Frame(NamedTuple):
    """One record as it stands in the file."""

    offset: int
    """Byte offset of its first byte."""
    line: int
    """Line of that byte, from 1."""
    data: bytes
    """Its own bytes; in a format of lines with the newline (see `closed`)."""


@dataclass(frozen=True, slots=True)
class TextFormat:
    """How one kind of text file is framed, parsed and written."""

    kind: str
    """`Source.kind`."""
    suffix: str
    """`Source.suffix`."""
    unit: str
    """What a person calls a record of this file: line, element, record."""
    offset: int
    """Where the records begin, behind BOM and header."""
    line: int
    """Line of that offset, from 1."""
    frames: Callable[[BinaryIO, int, int], Iterator[Frame]]
    """Yields the records from an offset and its line on."""
    parse: Callable[[Frame], Row]
    """Reads one record; raises BadRow."""
    head: bytes = b""
    """Stands before the records of an output file."""
    joiner: bytes = b""
    """Stands between two records."""
    tail: bytes = b""
    """Stands behind the last."""


class TextSource:
    """A text file in one of the formats."""

    def __init__(self, path: Path, form: TextFormat) -> None:
        self.name = str(path)
        self.kind = form.kind
        self.suffix = form.suffix
        self._path = path
        self._form = form

    def __reduce__(self) -> tuple[Any, ...]:
        from gradsentry.data.sources import open_source

        return open_source, (self._path,)  # a format is made of closures, which cannot be pickled

    def plan(self, shard_rows: int) -> list[Shard]:
        """Cut the file into shards in one streaming pass; only the first row of each is remembered."""
        rows, starts = 0, []
        for rows, (offset, line, _) in enumerate(self._all_frames(), 1):
            if (rows - 1) % shard_rows == 0:
                starts.append((offset, line))
        shards = cut(rows, shard_rows)
        return [Shard(shard.index, shard.start, shard.stop, offset, line) for shard, (offset, line) in zip(shards, starts, strict=True)]

    def read(self, shard: Shard) -> Iterator[Record]:
        """The shard's rows, read from its offset on."""
        row = shard.start
        for frame in islice(self._frames(shard.offset, shard.line), shard.stop - shard.start):
            yield self._record(row, frame)
            row += 1
        if row < shard.stop:
            raise DataError(f"{self.name}: it ends before row {row}, so it changed after it was opened; start again")

    def fingerprint(self) -> str:
        """SHA-256 of the file's bytes."""
        return self._sha256

    def split(self, flagged: Iterable[bool], kept: Path, flagged_path: Path) -> tuple[int, int]:
        """Copy each record's own bytes to one of the two files."""
        form, counts = self._form, [0, 0]
        with kept.open("wb") as kept_file, flagged_path.open("wb") as flagged_file:
            outputs = (kept_file, flagged_file)
            for frame, flag in paired(self._all_frames(), flagged, self.name):
                outputs[flag].write(form.joiner if counts[flag] else form.head)
                outputs[flag].write(frame.data)
                counts[flag] += 1
            for output, count in zip(outputs, counts, strict=True):
                if not count:  # a file without rows is empty, or what its format needs: a byte order mark is neither
                    output.write(form.head.removeprefix(UTF8_BOM))
                output.write(form.tail)
        return counts[0], counts[1]

    @cached_property
    def _sha256(self) -> str:
        return sha256_of(self._path)

    def _frames(self, offset: int, line: int) -> Iterator[Frame]:
        with open_binary(self._path) as file:
            yield from self._form.frames(file, offset, line)

    def _all_frames(self) -> Iterator[Frame]:
        return self._frames(self._form.offset, self._form.line)

    def _record(self, row: int, frame: Frame) -> Record:
        place = f"{self._path.name}:{frame.line}"
        try:
            return Record(row, place, self._form.parse(frame))
        except BadRow as error:
            return Record(row, place, None, f"{place}: {error}; mend or remove the {self._form.unit}")


def byte_order_mark(path: Path) -> bytes:
    """The UTF-8 byte order mark if the file starts with one, else nothing.

    Raises:
        DataError: The file starts like something that is not UTF-8 text.
    """
    with open_binary(path) as file:
        start = file.read(3)
    problem = _FOREIGN.get(start[:2])
    if problem:
        raise DataError(f"{path}: it is {problem}")
    return UTF8_BOM if start == UTF8_BOM else b""


def decode(data: bytes) -> str:
    """The record as text.

    Raises:
        BadRow: It is not UTF-8.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        byte = data[error.start]
        raise BadRow(f"not UTF-8: byte 0x{byte:02X} at position {error.start + 1}") from error


def closed(data: bytes, newline: bytes) -> bytes:
    """A line with its newline; that of the file is supplied where it ends without."""
    if data.endswith(b"\n"):
        return data
    return data + newline.removeprefix(b"\r" if data.endswith(b"\r") else b"")


def newline_of(line: bytes) -> bytes:
    """The newline of a file that has this line, or begins with it."""
    return b"\r\n" if line.endswith(b"\r\n") else b"\n"
