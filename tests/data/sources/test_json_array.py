from __future__ import annotations

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradsentry.data.sources import open_source
from gradsentry.data.sources.json_array import elements
from gradsentry.errors import DataError

BOM = b"\xef\xbb\xbf"
SPACE = st.text(" \t\r\n", max_size=3)
TEXT = st.text(max_size=6) | st.text('\\"[]{},: \n', max_size=6)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def arrays(draw) -> tuple[list[dict], bytes]:
    """Objects and a rendering of them as an array with random space between the elements."""
    rows = draw(st.lists(st.dictionaries(TEXT, VALUE, max_size=3), max_size=6))
    text = ",".join(
        draw(SPACE) + json.dumps(row, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1]))) + draw(SPACE)
        for row in rows
    )
    return rows, f"[{draw(SPACE)}{text}]{draw(SPACE)}".encode()


@given(arrays(), st.integers(1, 9))
def test_the_scanner_agrees_with_json_at_any_chunk_size(array, chunk_size):
    rows, data = array
    frames = list(elements(io.BytesIO(data), 1, 1, "data.json", chunk_size))
    assert [json.loads(frame.data) for frame in frames] == rows
    for at, frame in enumerate(frames):
        assert data[frame.offset :].startswith(frame.data)
        assert frame.line == 1 + data.count(b"\n", 0, frame.offset)
        # Starting over at an element's offset gives the rest of the elements.
        assert list(elements(io.BytesIO(data), frame.offset, frame.line, "data.json", chunk_size)) == frames[at:]


@given(arrays(), st.integers(1, 4), st.data())
@settings(max_examples=50, deadline=None)
def test_shards_and_both_halves_of_a_split_hold_every_row(tmp_path_factory, array, shard_rows, data):
    rows, content = array
    folder = tmp_path_factory.mktemp("array")
    (folder / "data.json").write_bytes(content)
    source = open_source(folder / "data.json")
    read = [record.value for shard in source.plan(shard_rows) for record in source.read(shard)]
    assert read == rows
    flags = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    source.split(flags, [folder / "kept.json", folder / "flagged.json"])
    for wanted, name in ((False, "kept.json"), (True, "flagged.json")):
        assert json.loads((folder / name).read_bytes()) == [row for row, flag in zip(rows, flags, strict=True) if flag == wanted]


def test_split_keeps_the_bytes_of_each_element(open_bytes, split_bytes):
    data = b'[\n{"a":  1},\n{ "a": "\\u00e9,]" },\n{"a"\n:3}\n]\n'
    source = open_bytes("data.json", data)
    assert (source.kind, source.suffix) == ("json", "json")
    assert split_bytes(source, [False] * 3) == (data, b"[\n\n]\n")
    assert split_bytes(source, [False, True, False]) == (
        b'[\n{"a":  1},\n{"a"\n:3}\n]\n',
        b'[\n{ "a": "\\u00e9,]" }\n]\n',
    )


def test_byte_order_mark(open_bytes, read_all, split_bytes):
    source = open_bytes("data.json", BOM + b'\n [{"a": 1}]')
    assert [(record.place, record.value) for record in read_all(source)] == [("data.json:2", {"a": 1})]
    assert split_bytes(source, [False]) == (BOM + b'[\n{"a": 1}\n]\n', b"[\n\n]\n")


@pytest.mark.parametrize("data", [b"[]", b" \n[ \n ]\n"])
def test_empty_array(open_bytes, data):
    source = open_bytes("data.json", data)
    assert (source.kind, source.plan(5)) == ("json", [])


@pytest.mark.parametrize(
    ("element", "error"),
    [
        (
            b'{"a": 1,,}',
            "not valid JSON: Expecting property name enclosed in double quotes at line 3 (byte offset 22)",
        ),
        (b'{"a":\n tru}', "not valid JSON: Expecting value at line 4 (byte offset 21)"),
        (b'{"a": \xff}', "not UTF-8: byte 0xFF at position 7"),
        (b'{"a": 1} {"b": 2}', "not valid JSON: Extra data at line 3 (byte offset 23)"),
        (b"17", "it is a number, not a JSON object with named fields"),
        (b"[" * 100_000 + b"]" * 100_000, "it is nested too deeply to be read"),
    ],
)
def test_a_bad_element_is_one_bad_row(open_bytes, read_all, split_bytes, element, error):
    source = open_bytes("data.json", b'[\n{"a": "x"},\n' + element + b',\n{"a": 2}]')
    first, bad, last = read_all(source)
    assert (first.value, last.value) == ({"a": "x"}, {"a": 2})
    assert bad.value is None
    assert bad.error == f"data.json:3: {error}; mend or remove the element"
    assert split_bytes(source, [False, True, False])[1] == b"[\n" + element + b"\n]\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'[{"a": 1},\n{"a": "never}]\n', "data.json:2: the element that starts here is not closed"),
        (b'[{"a": 1},\n', "data.json:2: the array is not closed"),
        (b'[\n{"a": 1}\n', "data.json:2: the element that starts here is not closed"),
        (b"[", "data.json:1: the array is not closed"),
        (b'[\n{"a": [1}, {"a": 2}]', "data.json:2: found '}' where ']' should close"),
        (b'[\n{"a": 1}}\n]', "data.json:2: found '}' where ']' should close"),
        (b'[{"a": 1}]\n\n[{"a": 2}]', "data.json:3: something follows the ']'"),
        (b'[{"a": 1},\n]', "data.json:2: an element is missing beside a comma"),
        (b'[{"a": 1},\n,{"a": 2}]', "data.json:2: an element is missing beside a comma"),
        (b'[\n,{"a": 2}]', "data.json:2: an element is missing beside a comma"),
    ],
)
def test_a_broken_array_is_refused_before_anything_is_scored(open_bytes, data, message):
    source = open_bytes("data.json", data)
    with pytest.raises(DataError) as caught:
        source.plan(2)
    assert str(caught.value).startswith(message)
