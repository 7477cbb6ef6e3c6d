"""The rows of a hostile file are those that `datasets` reads from it, so that a trainer reads no row that nobody examined."""

from __future__ import annotations

import json
import os
import re

import datasets
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from as_datasets import check, load, read

A, B, C = (b'{"prompt": "%s", "completion": "said %s"}' % (name, name) for name in (b"ask", b"bid", b"cry"))
DIGITS = b"9" * 5000
BOM = b"\xef\xbb\xbf"
TYPES = b'{"prompt": "one", "z": 1}\n{"prompt": "two", "z": "s"}\n'
"""A column with values of two types: `datasets` reads the lines of such a file with a parser that takes more."""

JSON = {
    "an integer of 5,000 digits": A + b"\n" + b'{"prompt": "long", "completion": "poison", "n": ' + DIGITS + b"}\n" + B,
    "two objects on a line": A + B + b"\n" + C,
    "two objects with a space": A + b" \t" + B + b"\n",
    "only CR": A + b"\r" + B + b"\r" + C + b"\r",
    "CR LF": A + b"\r\n" + B + b"\r\n",
    "all line ends": A + b"\r" + B + b"\n" + C + b"\r\n" + A + b"\r\r\n\n" + B,
    "objects over lines": b'{\n "prompt": "x",\n "completion": "y"\n}\n{\r"prompt": "z"}' + A + b"\n" + B,
    "one object over lines": b'{\n "prompt": "x",\n "completion": "y"\n}',
    "nested objects over lines": b'{"messages": [\n{"role": "user",\n"content": "a"},\n{"role": "assistant", "content": "b"}\n]}\n',
    "null": A + b"\nnull\n" + B,
    "null in a line": A + b"null" + B + b" null\n",
    "blank lines": b"\n\n" + A + b"\n  \n\t\n" + B + b"\n\n",
    "a byte order mark": BOM + A + b"\n" + B,
    "NaN and Infinity": b'{"prompt": "x", "a": NaN, "b": -Infinity}\n' + B,
    "an empty object": A + b"\n{}\n" + B,
    "NUL in a string": b'{"prompt": "a\\u0000x"}\n' + B,
    "brackets in strings": b'{"prompt": "}{][", "completion": "\\"}{"} {"prompt": "{"}\n' + B,
    "types: a tab in a string": TYPES + b'{"prompt": "a\tb"}\n',
    "types: a repeated key": TYPES + b'{"prompt": "a", "prompt": "b"}\n',
    "types: CR": TYPES + A + b"\r" + B,
    "an array": b"[" + A + b"," + B + b"]",
    "an array over lines": b"\n [\r\n" + A + b",\n" + B + b"\n]\n\n",
    "an array of texts": b'["one", "two"]',
    "an array with a tab in a string": b'[{"prompt": "a\tb\n"}]',
}
REFUSED = {
    "a comma between objects": A + b"," + B + b"\n" + C,
    "a word between lines": A + b"\nhello\n" + B,
    "a form feed": A + b"\n\x0c" + B,
    "a NUL line": A + b"\n\0\n" + B,
    "an object that is cut off": A + b'\n{"prompt": "x", \n' + B + b"\n" + C,
    "a text that is cut off": A + b'\n{"prompt": "x\n' + B,
    "a list that is cut off": A + b'\n{"messages": [{"role": "user"},\n' + B + b"\n" + C,
    "a number after an object": A + b" 5\n" + B,
    "a key twice": b'{"prompt": "a", "prompt": "b"}\n' + B,
    "half a surrogate pair": b'{"prompt": "a\\ud800x"}\n' + B,
    "a comma at the end": b'{"prompt": "x",}\n' + B,
    "nested deeply": A + b'\n{"prompt": "x", "z": ' + b"[" * 3000 + b"]" * 3000 + b"}" + B,
    "an array in a line": A + b"\n[" + B + b"]",
    "two arrays": b"[" + A + b"]\n[" + B + b"]",
}
CSV = {
    "only CR": b"prompt,completion\ra,b\rc,d\r",
    "all line ends": b"prompt,completion\ra,b\nc,d\r\n\re,f",
    "a short record": b"prompt,completion\npoison\nc,d\n",
    "a row index": b"prompt,completion\n0,a,b\n1,c,d\n",
    "two row indexes": b"prompt,completion\n0,9,a,b\n1,8,c,d\n",
    "a row index and a short record": b"prompt,completion\nx,a,b\nc,d\n",
    "a comma at the line's end": b"prompt,completion\na,b,\nc,d,\n",
    "blank lines": b"\n\nprompt,completion\n\na,b\n \n\t\n\r\nc,d\n\n",
    "an empty text": b'text\na\n""\nb\n',
    "CR in quotes": b'prompt,completion\r"a\rx",b\rc,"d\r\ny"\r',
    "quotes within a field": b'prompt,completion\na"b,c\nd"e"f,g\n"a"b,c\n"d" ,e\n',
    "NUL": b"prompt,completion\na\0x,b\n\0\nc,d\n",
    "a byte order mark": BOM + b'"prompt",completion\na,b\n',
    "unusual line separators": "prompt,completion\na\u2028x,b\n\x85,d".encode(),
}
CSV_REFUSED = {
    "too many fields": b"prompt,completion\na,b\n1,c,d\n",
    "an open quote": b'prompt,completion\na,b\n"c,d\ne,f\n',
    "not UTF-8": b"prompt,completion\na\xff,b\nc,d\n",
}


@pytest.mark.parametrize("name", JSON)
def test_json_rows_are_those_of_datasets(write, name):
    path = write("data.jsonl", JSON[name])
    rows = load(path, streaming=False)
    assert rows is not None
    assert rows == load(path) or "NaN" in name
    assert check(path) == ("not all rows read" if "null" in name else "all rows read")


def test_a_value_that_is_not_utf_8_spoils_its_column_only(write):
    path = write("data.jsonl", b'{"prompt": "x", "completion": "y", "z": "\xff"}\n' + B)
    whole = datasets.load_dataset("json", data_files=str(path), split="train")
    opened = read(path)
    assert opened is not None
    columns = ["prompt", "completion"]
    assert list(whole.select_columns(columns)) == [{name: record.value[name] for name in columns} for record in opened[1] if record.value]


@pytest.mark.parametrize("name", CSV)
def test_csv_rows_are_those_of_datasets(write, name):
    path = write("data.csv", CSV[name])
    assert load(path, streaming=False) == load(path) is not None
    assert check(path) == ("not all rows read" if "and a short" in name else "all rows read")


@pytest.mark.parametrize(("suffix", "name"), [("jsonl", name) for name in REFUSED] + [("csv", name) for name in CSV_REFUSED])
def test_where_datasets_refuses_a_file_the_rows_that_can_be_read_are_read(write, suffix, name):
    path = write(f"data.{suffix}", (REFUSED if suffix == "jsonl" else CSV_REFUSED)[name])
    assert load(path) is None
    if name == "two arrays":
        assert check(path) == "refused by both"
        return
    assert check(path) == "refused by datasets"
    opened = read(path)
    assert opened is not None
    assert sum(record.value is not None for record in opened[1]) >= 1


FUZZED_FILES = int(os.environ.get("GRADSENTRY_FUZZED_FILES", "100"))
"""Random files of each kind; 5000 take a quarter of an hour."""
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r", b"", b" ", b"\n\n", b"\r\r", b"\t\n "])
STRINGS = st.text('"\\ab{}[]:, \té\u2028\x00', max_size=6).map(lambda text: "s" + text)
ROWS = st.fixed_dictionaries(
    {"prompt": STRINGS, "completion": STRINGS}, optional={"n": st.integers() | st.just(10**3000), "z": st.lists(STRINGS, max_size=2)}
)


@st.composite
def json_files(draw) -> bytes:
    """JSON objects, laid out and ended in any way, and sometimes damaged in one place."""
    data = b""
    for row in draw(st.lists(ROWS, min_size=1, max_size=5)):
        text = json.dumps(row, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, None, 0, 1])))
        data += text.encode() + draw(ENDS)
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(1, len(data)))
        data = data[:at] + draw(st.sampled_from([b"", b"\n", b"\r", b"}", b"{", b'"', b",", b"\xff", b"\\", b"]"])) + data[at + 1 :]
    return draw(st.sampled_from([b"", b"", BOM, b"\n "])) + data


@st.composite
def csv_files(draw) -> bytes:
    """Records of any number of fields with any quotes and line ends."""
    field = st.sampled_from(["x", "", "y z", '"q"', '"a,b"', '"two\nlines"', '"a\rb"', 'q"r', '"d""e"', "é", '"', "\0"])
    header = draw(st.sampled_from(["prompt,completion", '"prompt",completion', "text"]))
    lines = [header, *(",".join(fields) for fields in draw(st.lists(st.lists(field, min_size=1, max_size=3), max_size=5)))]
    return b"".join(line.encode() + draw(st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n"])) for line in lines)


@given(json_files(), st.integers(1, 3))
@settings(max_examples=FUZZED_FILES, deadline=None)
def test_any_json_file_has_the_rows_of_datasets(tmp_path_factory, data, shard_rows):
    path = tmp_path_factory.mktemp("json") / "data.jsonl"
    path.write_bytes(data)
    check(path, shard_rows)


@given(csv_files(), st.integers(1, 3))
@settings(max_examples=FUZZED_FILES, deadline=None)
def test_any_csv_file_has_the_rows_of_datasets(tmp_path_factory, data, shard_rows):
    assume(not re.search(rb"[\r\n]\r,", data))  # after an empty line that ends in CR, pandas loses an empty first field
    path = tmp_path_factory.mktemp("csv") / "data.csv"
    path.write_bytes(data)
    check(path, shard_rows)
