from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradsentry.data.sources import csv_file, open_source
from gradsentry.errors import DataError

BOM = b"\xef\xbb\xbf"
DATA = b'a,b\r\n1,"x, y"\r\n2,"two\r\nlines ""quoted"""\r\n\r\n3,\xc3\xa9\r\n'


def test_rows_places_and_split(open_bytes, read_all, split_bytes):
    source = open_bytes("data.csv", DATA)
    assert (source.kind, source.suffix) == ("csv", "csv")
    assert [(record.place, record.value) for record in read_all(source, 1)] == [
        ("data.csv:2", {"a": "1", "b": "x, y"}),
        ("data.csv:3", {"a": "2", "b": 'two\r\nlines "quoted"'}),
        ("data.csv:6", {"a": "3", "b": "é"}),
    ]
    kept, flagged = split_bytes(source, [True, False, True])
    assert kept == b'a,b\r\n2,"two\r\nlines ""quoted"""\r\n'
    assert flagged == b'a,b\r\n1,"x, y"\r\n3,\xc3\xa9\r\n'


def test_tsv(open_bytes, read_all, split_bytes):
    data = b'a\tb\n1,2\t"x\ty"\n\t\n'
    source = open_bytes("data.TSV", data)
    assert (source.kind, source.suffix) == ("csv", "tsv")
    assert [record.value for record in read_all(source)] == [{"a": "1,2", "b": "x\ty"}, {"a": "", "b": ""}]
    assert split_bytes(source, [False, False]) == (data, b"a\tb\n")


@given(
    st.lists(st.tuples(st.text(max_size=8), st.text('",\n\r x', max_size=8)), max_size=6),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(1, 4),
)
@settings(max_examples=60, deadline=None)
def test_what_csv_writes_is_read_and_kept_unchanged(tmp_path_factory, rows, terminator, shard_rows):
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator=terminator, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *rows])
    data = buffer.getvalue().encode()
    folder = tmp_path_factory.mktemp("csv")
    (folder / "data.csv").write_bytes(data)
    source = open_source(folder / "data.csv")
    records = [record for shard in source.plan(shard_rows) for record in source.read(shard)]
    assert [tuple(record.value.values()) for record in records] == rows
    source.split([False] * len(rows), [folder / "kept.csv", folder / "flagged.csv"])
    assert (folder / "kept.csv").read_bytes() == data


@pytest.mark.parametrize("data", [b"", b"\n\n", b"a,b", b"a,b\n", BOM + b"a,b\n \n"])
def test_no_rows(open_bytes, data):
    assert open_bytes("data.csv", data).plan(3) == []


def test_byte_order_mark_and_last_line_without_newline(open_bytes, read_all, split_bytes):
    source = open_bytes("data.csv", BOM + b"a,b\n1,2\n3,4")
    assert [record.value for record in read_all(source, 1)] == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    assert split_bytes(source, [False, True]) == (BOM + b"a,b\n1,2\n", BOM + b"a,b\n3,4\n")
    assert split_bytes(source, [False, False]) == (BOM + b"a,b\n1,2\n3,4\n", b"a,b\n")


@pytest.mark.parametrize("end", [b"", b"\r", b"\r\n"])
def test_a_newline_that_is_missing_is_that_of_the_header(open_bytes, read_all, split_bytes, end):
    source = open_bytes("data.csv", b'"a\n",b\r\n1,2\r\n3,4' + end)
    assert [record.value for record in read_all(source, 1)] == [{"a\n": "1", "b": "2"}, {"a\n": "3", "b": "4"}]
    assert split_bytes(source, [False, True]) == (b'"a\n",b\r\n1,2\r\n', b'"a\n",b\r\n3,4' + (end or b"\r\n"))


@pytest.mark.parametrize(
    ("record", "error"),
    [
        (b"1,2,3\n", "it has 3 fields where the header has 2"),
        (b'"x\n\xff",2\n', "not UTF-8: byte 0xFF at position 4"),
    ],
)
def test_a_bad_record_is_one_bad_row(open_bytes, read_all, split_bytes, record, error):
    source = open_bytes("data.csv", b"a,b\nx,y\n" + record + b"z,w\n")
    first, bad, last = read_all(source, 1)
    assert (first.value, last.value) == ({"a": "x", "b": "y"}, {"a": "z", "b": "w"})
    assert bad.value is None
    assert bad.error.startswith(f"data.csv:3: {error}")
    assert bad.error.endswith("; mend or remove the record")
    assert split_bytes(source, [False, True, False]) == (b"a,b\nx,y\nz,w\n", b"a,b\n" + record)


def test_a_quote_that_is_never_closed_is_one_bad_row_that_says_how_far_it_reaches(open_bytes, read_all, split_bytes):
    source = open_bytes("data.csv", b'a,b\n1,2\n3,"open\n4,5\n6,7\n')
    good, bad = read_all(source)
    assert good.value == {"a": "1", "b": "2"}
    assert bad.error.startswith("data.csv:3: a quote that opens in line 3 or soon after is not closed")
    assert "lines 3 to 5 were read as one record" in bad.error
    assert split_bytes(source, [False, True]) == (b"a,b\n1,2\n", b'a,b\n3,"open\n4,5\n6,7\n')


def test_a_field_over_the_limit_loses_no_line(write, read_all, split_bytes, monkeypatch):
    monkeypatch.setattr(csv_file, "FIELD_LIMIT", 100)
    before = csv.field_size_limit(100)
    try:
        source = open_source(write("data.csv", b'a,b\n1,"open' + b"x\n" * 60 + b"2,3\n4,5\n"))
        bad, *_, last = read_all(source)
        assert "field larger than field limit (100)" in bad.error
        assert last.value == {"a": "4", "b": "5"}
    finally:
        csv.field_size_limit(before)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"a,,b\n", "data.csv:1: column 2 of the header has no name"),
        (b"\n ,a\n", "data.csv:2: column 1 of the header has no name"),
        (b"a,b,a\n", "data.csv:1: the header names 'a' more than once"),
        (b'a,"b\n', "data.csv:1: the header cannot be read: a quote"),
        (b"a,\xff\n", "data.csv:1: the header cannot be read: not UTF-8"),
    ],
)
def test_a_bad_header_is_refused(write, header, message):
    with pytest.raises(DataError) as caught:
        open_source(write("data.csv", header))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "header", "separator", "advice"),
    [
        ("data.csv", b"prompt;completion\n", "';'", "write it again with commas, or with tabs and the suffix .tsv"),
        ("data.csv", b"prompt|completion\n", "'|'", "write it again with commas"),
        ("data.csv", b"prompt\tcompletion\n", "a tab", "rename it to .tsv"),
        ("data.tsv", b"prompt,completion\n", "','", "rename it to .csv"),
        ("data.tsv", b'"prompt";"completion"\n', "';'", "write it again with commas"),
    ],
)
def test_another_separator_is_refused_with_the_one_that_it_is(write, name, header, separator, advice):
    with pytest.raises(DataError) as caught:
        open_source(write(name, header + b"a, b\n"))
    assert f"{name}:1: the header is one column, because {separator} separates its names" in str(caught.value)
    assert advice in str(caught.value)


@pytest.mark.parametrize("header", [b"text\n", b"text;\n", b'"text, raw"\n', b"a;b,c\n"])
def test_a_single_column_and_odd_names_stay(open_bytes, header):
    assert open_bytes("data.csv", header).plan(1) == []
