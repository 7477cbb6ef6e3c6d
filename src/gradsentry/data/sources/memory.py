"""Rows in memory: a list of mappings from a Python caller."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from gradsentry.data.fields import Unreadable
from gradsentry.data.sources.shards import Visitor, cut_into_shards, visit_by_row, with_parts
from gradsentry.types import Record, Shard


class MemorySource:
    """A sequence of mappings. It is written as JSON lines."""

    name = "rows"
    kind = "rows"
    suffix = "jsonl"
    notes = ()

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows = rows

    def plan(self, shard_rows: int) -> list[Shard]:
        """Cut by the row count."""
        return cut_into_shards(len(self._rows), shard_rows)

    def read(self, shard: Shard) -> Iterator[Record]:
        """The shard's rows. An item that is no mapping is an unreadable row; a value that Python cannot print is an unreadable cell."""
        for row in range(shard.start, shard.stop):
            item, place = self._rows[row], f"row {row}"
            if isinstance(item, Mapping):
                yield Record(row, place, {name: _printable(value) for name, value in item.items()})
            else:
                kind = type(item).__name__
                yield Record(row, place, None, f"{place}: it is a {kind}, not a mapping from column names to values")

    def fingerprint(self) -> str:
        """SHA-256 of the rows as JSON with sorted keys."""
        digest = hashlib.sha256()
        for item in self._rows:
            digest.update(json_line(item, sort_keys=True))
        return digest.hexdigest()

    def split(self, parts: Iterable[int], paths: Sequence[Path], visitor: Visitor | None = None) -> tuple[int, ...]:
        """Write each row as a JSON line to one of the files; what JSON cannot hold becomes text."""
        counts = [0] * len(paths)
        with ExitStack() as stack:
            outputs = [stack.enter_context(path.open("wb")) for path in paths]
            for item, part in with_parts(self._rows, parts, self.name):
                outputs[part].write(json_line(item))
                counts[part] += 1
        visit_by_row(self.read, visitor)
        return tuple(counts)


def _printable(value: Any) -> Any:
    """The value, or `Unreadable` where Python cannot print it: the report shows rows."""
    if isinstance(value, (int, list, tuple, dict)):
        try:
            repr(value)
        except ValueError:
            return Unreadable("an integer with too many digits")
        except RecursionError:
            return Unreadable("it is nested too deeply")
    return value


def json_line(item: object, sort_keys: bool = False) -> bytes:
    """Any object as a line of JSON; what JSON cannot hold becomes text."""
    try:
        text = json.dumps(item, ensure_ascii=False, sort_keys=sort_keys, default=_json_default)
    except (TypeError, ValueError, RecursionError):  # keys that are no text, a cycle, an integer of thousands of digits, deep nesting
        text = json.dumps(_as_text(item), ensure_ascii=False)
    # Half a surrogate pair has no UTF-8 form; JSON writes it as a backslash escape.
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _json_default(value: Any) -> Any:
    """A value of a type that JSON does not have: a mapping as a dict, an array as a list, anything else as text."""
    if isinstance(value, Mapping):
        return dict(value)
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _as_text(item: object) -> str:
    """The object as Python prints it; integers of thousands of digits, which it does not print, in hexadecimal."""
    try:
        try:
            return str(item)
        except ValueError:
            return str(_with_hexadecimals(item))
    except (RecursionError, ValueError) as error:
        how = "nested too deeply" if isinstance(error, RecursionError) else "that holds an integer with too many digits"
        return f"a {type(item).__name__} {how} to be written out"


def _with_hexadecimals(value: Any) -> Any:
    """The value with integers of more than 64 bits as hexadecimal text."""
    if isinstance(value, Mapping):
        return {key: _with_hexadecimals(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_hexadecimals(inner) for inner in value]
    return hex(value) if isinstance(value, int) and value.bit_length() > 64 else value
