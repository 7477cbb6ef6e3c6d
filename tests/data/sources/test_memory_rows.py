from __future__ import annotations

import json
from types import MappingProxyType

import numpy as np

from gradsentry.data.fields import Unreadable
from gradsentry.data.sources import open_source


def test_rows_are_read_as_they_are(read_all):
    rows = [{"a": 1}, MappingProxyType({"a": 2}), "text", None]
    source = open_source(rows)
    assert (source.kind, source.suffix) == ("rows", "jsonl")
    first, second, text, nothing = read_all(source, 3)
    assert (first.value, second.value) == ({"a": 1}, {"a": 2})
    assert text.error == "row 2: it is a str, not a mapping from column names to values"
    assert nothing.error.startswith("row 3: it is a NoneType")


def test_no_rows():
    assert open_source([]).plan(4) == []


def test_split_writes_json_lines_of_anything(split_bytes):
    half = "\ud83d"
    rows = [{"a": "é", "n": np.int64(3)}, {"a": half, "s": {1}}, None, {"m": MappingProxyType({"x": np.arange(2)})}]
    rows += [{(1, 2): "key"}]
    kept, flagged = split_bytes(open_source(rows), [False, True, True, False, False])
    assert kept.splitlines()[0] == '{"a": "é", "n": 3}'.encode()
    assert json.loads(kept.splitlines()[1]) == {"m": {"x": [0, 1]}}
    assert json.loads(kept.splitlines()[2]) == "{(1, 2): 'key'}"
    assert [json.loads(line) for line in flagged.splitlines()] == [{"a": half, "s": "{1}"}, None]


def test_fingerprint_follows_the_content():
    one = open_source([{"a": 1, "b": 2}]).fingerprint()
    assert one == open_source([{"b": 2, "a": 1}]).fingerprint()
    assert one != open_source([{"a": 1, "b": 3}]).fingerprint()


def nested(depth: int) -> list:
    """A list in a list in a list ..."""
    value = []
    for _ in range(depth):
        value = [value]
    return value


def test_what_python_does_not_write_out_is_one_unreadable_cell(read_all, split_bytes):
    huge, deep = 10**5000, nested(100_000)
    rows = [{"a": "x", "n": huge}, {"a": "y", "n": [1, {"m": huge}]}, {"a": "z", "n": deep}, {"a": "w", "n": 1}]
    source = open_source(rows)
    records = read_all(source)
    assert [record.value["a"] for record in records] == ["x", "y", "z", "w"]
    reasons = ["an integer with too many digits", "an integer with too many digits", "it is nested too deeply"]
    assert [record.value["n"] for record in records] == [*map(Unreadable, reasons), 1]
    assert "too many digits" in str(records[0].value)
    kept, flagged = split_bytes(source, [False, True, True, False])
    first, last = map(json.loads, kept.splitlines())
    assert first == f"{{'a': 'x', 'n': '{hex(huge)}'}}"
    assert last == rows[3]
    second, third = map(json.loads, flagged.splitlines())
    assert second == f"{{'a': 'y', 'n': [1, {{'m': '{hex(huge)}'}}]}}"
    assert third == "a dict nested too deeply to be written out"
    assert source.fingerprint() != open_source([rows[0] | {"n": huge + 1}, *rows[1:]]).fingerprint()


def test_a_row_that_holds_itself_is_written_as_text(split_bytes):
    row = {"a": "x"}
    row["self"] = row
    assert json.loads(split_bytes(open_source([row]), [False])[0]) == "{'a': 'x', 'self': {...}}"
