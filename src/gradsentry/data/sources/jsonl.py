"""JSON lines: one object a line. `parse_object` also parses the elements of a JSON array."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from gradsentry.data.sources.files import open_binary
from gradsentry.data.sources.text_file import BadRow, Frame, Layout, byte_order_mark, decode, newline_of, with_newline
from gradsentry.types import Row

_NAMES = {list: "an array", str: "a string", bool: "true or false", int: "a number", float: "a number"}


def json_lines(path: Path) -> Layout:
    """The layout of a JSON lines file."""
    bom = byte_order_mark(path)
    with open_binary(path) as file:
        newline = newline_of(file.readline())
    return Layout("jsonl", "jsonl", "line", len(bom), 1, partial(_frames, newline), _parse, head=bom)


def is_one_object(path: Path) -> bool:
    """Whether the file is one JSON value over many lines: its first line ends with an opening bracket, which no JSON line does."""
    with open_binary(path) as file:
        first = next((line for line in file if not line.isspace()), b"")
    return first.rstrip().endswith((b"{", b"["))


def parse_object(data: bytes, place: Callable[[json.JSONDecodeError], str]) -> Row:
    """The JSON object that `data` holds; `place` names the place of a syntax error in the file.

    Raises:
        BadRow: it is not UTF-8, not JSON, or not an object.
    """
    text = decode(data)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        what = error.msg.removesuffix(" at")  # some of its messages expect a position to follow
        raise BadRow(f"not valid JSON: {what} at {place(error)}") from error
    except ValueError as error:  # Python refuses to read integers of thousands of digits
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
            yield Frame(offset, line, with_newline(data, newline))
        offset += len(data)
        line += 1


def _parse(frame: Frame) -> Row:
    try:
        return parse_object(frame.data.rstrip(b"\r\n"), lambda error: f"column {error.colno}")
    except BadRow as error:
        advice = _other_kind(frame.data.strip(), str(error)) if frame.line == 1 else ""
        raise BadRow(f"{error}{advice}") from error


def _other_kind(line: bytes, problem: str) -> str:
    """Advice where the first line is not a row because the file is of another kind; else nothing."""
    if line.startswith(b"["):
        return "; if the file is one JSON array, rename it to .json"
    if line.startswith(b"{"):
        many = line.endswith((b"{", b"["))
        return "; if the file is JSON laid out over many lines, write its rows as an array of objects and name it .json" if many else ""
    if problem.startswith("not valid JSON") and any(separator in line for separator in b",;\t"):
        return "; if the file is CSV, rename it to .csv (with tabs: .tsv)"
    return ""
