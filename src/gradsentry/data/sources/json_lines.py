"""JSON lines: one object a line. Also what any JSON record goes through to become a row."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from gradsentry.data.sources.common import open_binary
from gradsentry.data.sources.text import BadRow, Frame, TextFormat, byte_order_mark, closed, decode, newline_of
from gradsentry.types import Row

_NAMES = {list: "an array", str: "a string", bool: "true or false", int: "a number", float: "a number"}


def json_lines(path: Path) -> TextFormat:
    """The format of a JSON lines file."""
    bom = byte_order_mark(path)
    with open_binary(path) as file:
        newline = newline_of(file.readline())
    return TextFormat("jsonl", "jsonl", "line", len(bom), 1, partial(_frames, newline), _parse, head=bom)


def is_one_object(path: Path) -> bool:
    """Whether the file is one JSON value laid out over many lines: no JSON line ends by opening a bracket."""
    with open_binary(path) as file:
        first = next((line for line in file if not line.isspace()), b"")
    return first.rstrip().endswith((b"{", b"["))


def parse_object(data: bytes, spot: Callable[[json.JSONDecodeError], str]) -> Row:
    """The JSON object that `data` holds; `spot` words where in the file a syntax error lies.

    Raises:
        BadRow: It is not UTF-8, not JSON, or not an object.
    """
    text = decode(data)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        what = error.msg.removesuffix(" at")  # some of its messages expect a position to follow
        raise BadRow(f"not valid JSON: {what} at {spot(error)}") from error
    except ValueError as error:  # Python refuses to convert integers of thousands of digits
        raise BadRow("it holds an integer with too many digits to be read") from error
    except RecursionError as error:
        raise BadRow("it is nested too deeply to be read") from error
    if not isinstance(value, dict):
        raise BadRow(f"it is {_NAMES.get(type(value), 'null')}, not a JSON object with named fields")
    return value


def _frames(newline: bytes, file: BinaryIO, offset: int, line: int) -> Iterator[Frame]:
    file.seek(offset)
    for data in file:
        if not data.isspace():
            yield Frame(offset, line, closed(data, newline))
        offset += len(data)
        line += 1


def _parse(frame: Frame) -> Row:
    try:
        return parse_object(frame.data.rstrip(b"\r\n"), lambda error: f"column {error.colno}")
    except BadRow as error:
        advice = _other_kind(frame.data.strip(), str(error)) if frame.line == 1 else ""
        raise BadRow(f"{error}{advice}") from error


def _other_kind(line: bytes, problem: str) -> str:
    """What to do where a first line that is no row is the beginning of another kind of file."""
    if line.startswith(b"["):
        return "; if the file is one JSON array, rename it to .json"
    if line.startswith(b"{"):
        many = line.endswith((b"{", b"["))
        return "; if the file is JSON laid out over many lines, write its rows as an array of objects and name it .json" if many else ""
    if problem.startswith("not valid JSON") and any(separator in line for separator in b",;\t"):
        return "; if the file is CSV, rename it to .csv (with tabs: .tsv)"
    return ""
