"""Rows in memory: what a Python caller passes as a list of mappings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gradsentry.data.fields import Unreadable
from gradsentry.data.sources.common import cut, paired
from gradsentry.types import Record, Shard


class RowsSource:
    """A sequence of mappings; it is written as JSON lines."""

    name = "rows"
    kind = "rows"
    suffix = "jsonl"

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows = rows

    def plan(self, shard_rows: int) -> list[Shard]:
        """Cut by count."""
        return cut(len(self._rows), shard_rows)

    def read(self, shard: Shard) -> Iterator[Record]:
        """The shard's rows; an item that is no mapping is an unreadable row, and what Python cannot write out an unreadable cell."""
        for row in range(shard.start, shard.stop):
            item, place = self._rows[row], f"row {row}"
            if isinstance(item, Mapping):
                yield Record(row, place, {name: _cell(value) for name, value in item.items()})
            else:
                kind = type(item).__name__
                yield Record(row, place, None, f"{place}: it is a {kind}, not a mapping from column names to values")

    def fingerprint(self) -> str:
        """SHA-256 of the rows as JSON with sorted keys."""
        digest = hashlib.sha256()
        for item in self._rows:
            digest.update(json_line(item, sort_keys=True))
        return digest.hexdigest()

    def split(self, flagged: Iterable[bool], kept: Path, flagged_path: Path) -> tuple[int, int]:
        """Write each row as a JSON line to one of the two files; what JSON cannot hold becomes text."""
        counts = [0, 0]
        with kept.open("wb") as kept_file, flagged_path.open("wb") as flagged_file:
            outputs = (kept_file, flagged_file)
            for item, flag in paired(self._rows, flagged, self.name):
                outputs[flag].write(json_line(item))
                counts[flag] += 1
        return counts[0], counts[1]


def _cell(value: Any) -> Any:
    """The value; one that Python does not write out, on which a report that shows the row would fail, is unreadable."""
    if isinstance(value, (int, list, tuple, dict)):
        try:
            repr(value)
        except ValueError:
            return Unreadable("an integer with too many digits")
        except RecursionError:
            return Unreadable("it is nested too deeply")
    return value


def json_line(item: object, sort_keys: bool = False) -> bytes:
    """Anything as a line of JSON; what JSON cannot hold becomes text."""
    try:
        text = json.dumps(item, ensure_ascii=False, sort_keys=sort_keys, default=_plain)
    except (TypeError, ValueError, RecursionError):  # keys that are no text, a value that contains itself, integers and nesting without end
        text = json.dumps(_as_text(item), ensure_ascii=False)
    # Half a surrogate pair has no UTF-8 form; a backslash escape is how JSON writes it.
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _plain(value: Any) -> Any:
    """What stands in JSON for a value that it has no form for."""
    if isinstance(value, Mapping):
        return dict(value)
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _as_text(item: object) -> str:
    """What Python writes for it, if it does."""
    try:
        try:
            return str(item)
        except ValueError:  # integers of thousands of digits are written out in hexadecimal alone
            return str(_hexadecimal(item))
    except RecursionError:
        return f"a {type(item).__name__} nested too deeply to be written out"


def _hexadecimal(value: Any) -> Any:
    """The value with integers of more than 64 bits as text."""
    if isinstance(value, Mapping):
        return {key: _hexadecimal(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_hexadecimal(inner) for inner in value]
    return hex(value) if isinstance(value, int) and value.bit_length() > 64 else value
