from __future__ import annotations

import hashlib
import io
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradsentry.data.sources import jsonl, open_source
from gradsentry.data.sources.text_file import Start
from gradsentry.errors import DataError
from gradsentry.types import Shard

BOM = b"\xef\xbb\xbf"
THREE = b'{"a": 1}\n{"a": "\xc3\xa9"}\n{"a": [1, {"b": null}]}\n'


def test_rows_places_and_shards(open_bytes, read_all):
    source = open_bytes("data.jsonl", THREE)
    assert (source.kind, source.suffix) == ("jsonl", "jsonl")
    assert source.plan(2) == [Shard(0, 0, 2, 0, 1), Shard(1, 2, 3, 21, 3)]
    records = read_all(source)
    assert [record.value for record in records] == [{"a": 1}, {"a": "é"}, {"a": [1, {"b": None}]}]
    assert [record.place for record in records] == ["data.jsonl:1", "data.jsonl:2", "data.jsonl:3"]
    assert [record.row for record in records] == [0, 1, 2]


def test_split_keeps_every_byte(open_bytes, split_bytes):
    assert split_bytes(open_bytes("d.ndjson", THREE), [False] * 3) == (THREE, b"")
    lines = THREE.splitlines(keepends=True)
    assert split_bytes(open_bytes("d.jsonl", THREE), [False, True, False]) == (lines[0] + lines[2], lines[1])


@pytest.mark.parametrize("data", [b"", b"\n  \n\r\n", BOM, BOM + b"\n"])
def test_no_rows(open_bytes, split_bytes, data):
    source = open_bytes("data.jsonl", data)
    assert source.plan(10) == []
    assert split_bytes(source, []) == (b"", b"")


def test_blank_lines_are_no_rows_but_count_as_lines(open_bytes, read_all, split_bytes):
    source = open_bytes("data.jsonl", b'\n{"a": 1}\n \t\r\n\n{"a": 2}\n\n')
    assert [(r.place, r.value) for r in read_all(source, 1)] == [("data.jsonl:2", {"a": 1}), ("data.jsonl:5", {"a": 2})]
    assert split_bytes(source, [True, False]) == (b'{"a": 2}\n', b'{"a": 1}\n')


def test_crlf_and_a_last_line_without_newline(open_bytes, read_all, split_bytes):
    source = open_bytes("data.jsonl", b'{"a": 1}\r\n{"a": 2}')
    assert [record.value for record in read_all(source)] == [{"a": 1}, {"a": 2}]
    assert split_bytes(source, [False, True]) == (b'{"a": 1}\r\n', b'{"a": 2}\r\n')


@pytest.mark.parametrize("end", [b"", b"\r", b"\r\n"])
def test_a_newline_that_is_missing_is_that_of_the_file(open_bytes, read_all, split_bytes, end):
    lines = [b'{"a": 1}\r\n', b'{"a": 2}\r\n']
    source = open_bytes("data.jsonl", BOM + lines[0] + lines[1].removesuffix(b"\r\n") + end)
    assert [record.value for record in read_all(source, 1)] == [{"a": 1}, {"a": 2}]
    assert split_bytes(source, [False, False]) == (BOM + lines[0] + lines[1].removesuffix(b"\r\n") + (end or b"\r\n"), b"")


def test_byte_order_mark_goes_to_both_files_and_into_no_row(open_bytes, read_all, split_bytes):
    source = open_bytes("data.jsonl", BOM + b'{"a": 1}\n{"a": 2}\n')
    assert [record.value for record in read_all(source, 1)] == [{"a": 1}, {"a": 2}]
    assert split_bytes(source, [False, True]) == (BOM + b'{"a": 1}\n', BOM + b'{"a": 2}\n')
    assert split_bytes(source, [False, False]) == (BOM + b'{"a": 1}\n{"a": 2}\n', b"")


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b'{"a": 1 "b": 2}', "not valid JSON: Expecting ',' delimiter at column 9; mend or remove the line"),
        (b'{"a": 1', "not valid JSON: Expecting ',' delimiter at column 8; mend or remove the line"),
        (b'{"a": "x', "not valid JSON: Unterminated string starting at column 7; mend or remove the line"),
        (b'{"a": \xff}', "not UTF-8: byte 0xFF at position 7; mend or remove the line"),
        (b"[1, 2]", "it is an array, not a JSON object with named fields; mend or remove the line"),
        (b'"text"', "it is a string, not a JSON object with named fields; mend or remove the line"),
        (b"3", "it is a number, not a JSON object with named fields; mend or remove the line"),
        (b"true", "it is true or false, not a JSON object with named fields; mend or remove the line"),
        (b"null", "it is null, not a JSON object with named fields; mend or remove the line"),
        (b"9" * 5000, "it is a number, not a JSON object with named fields; mend or remove the line"),
        (b'{"a": ' + b"[" * 200_000 + b"}", "it is nested too deeply to be read; mend or remove the line"),
    ],
)
def test_a_bad_line_is_one_bad_row(open_bytes, read_all, split_bytes, line, error):
    data = b'{"a": 0}\r\n' + line + b'\r\n{"a": 2}\r\n'
    source = open_bytes("data.jsonl", data)
    first, bad, last = read_all(source)
    assert (first.value, last.value) == ({"a": 0}, {"a": 2})
    assert bad.value is None
    assert bad.error == f"data.jsonl:2: {error}"
    assert split_bytes(source, [False, True, False]) == (b'{"a": 0}\r\n{"a": 2}\r\n', line + b"\r\n")


@pytest.mark.parametrize(
    ("data", "advice"),
    [
        (b"a,b\n1,2\n", "if the file is CSV, rename it to .csv"),
        (b'"a";b\n1;2\n', "if the file is CSV, rename it to .csv"),
        (b"a\tb\n1\t2\n", "if the file is CSV, rename it to .csv (with tabs: .tsv)"),
    ],
)
def test_the_first_line_of_another_kind_of_file_is_reported_once_with_advice(open_bytes, read_all, data, advice):
    first, *others = read_all(open_bytes("data.jsonl", BOM + data))
    assert first.value is None
    assert f"; {advice}" in first.error
    assert not any("if the file is" in other.error for other in others)


@pytest.mark.parametrize("line", [b'{"a": "x, y', b"null", b'"a, b"', b"# made by hand", b"\xff,b"])
def test_a_broken_first_line_is_not_taken_for_another_kind_of_file(open_bytes, read_all, line):
    first, second = read_all(open_bytes("data.jsonl", line + b'\n{"a": 2}\n'))
    assert "if the file is" not in first.error
    assert second.value == {"a": 2}


def test_nan_and_repeated_keys_are_read_as_python_reads_them(open_bytes, read_all):
    nan, twice = read_all(open_bytes("data.jsonl", b'{"a": NaN}\n{"a": 1, "a": 2}\n'))
    assert nan.value["a"] != nan.value["a"]
    assert twice.value == {"a": 2}


def test_unusual_line_separators_do_not_end_a_line(open_bytes, read_all):
    source = open_bytes("data.jsonl", '{"a": "x\u2028y\u0085z"}\n'.encode())
    assert [record.value for record in read_all(source)] == [{"a": "x\u2028y\u0085z"}]


@pytest.mark.parametrize(("encoding", "name"), [("utf-16", "UTF-16"), ("utf-32", "UTF-16 or UTF-32")])
@pytest.mark.parametrize("file", ["data.jsonl", "data.json", "data.csv"])
def test_other_encodings_are_refused(write, file, encoding, name):
    with pytest.raises(DataError, match=f"it is {name}.*re-encode it as UTF-8"):
        open_source(write(file, '{"a": 1}\n'.encode(encoding)))


@pytest.mark.parametrize(("flags", "how"), [([False] * 2, "more"), ([False] * 4, "fewer")])
def test_another_number_of_flags_is_refused(open_bytes, tmp_path, flags, how):
    source = open_bytes("data.jsonl", THREE)
    with pytest.raises(DataError, match=f"it has {how} rows than were scored"):
        source.split(flags, [tmp_path / "k", tmp_path / "f"])


def test_a_file_that_shrinks_while_it_is_read_is_reported(open_bytes, write):
    source = open_bytes("data.jsonl", THREE)
    (shard,) = source.plan(10)
    write("data.jsonl", b'{"a": 1}\n')
    with pytest.raises(DataError, match="ends before row 1"):
        list(source.read(shard))


def test_a_file_that_vanishes_is_reported(open_bytes, tmp_path):
    source = open_bytes("data.jsonl", THREE)
    (tmp_path / "data.jsonl").unlink()
    with pytest.raises(DataError, match="cannot be read: No such file"):
        source.plan(1)


def test_fingerprint_is_the_hash_of_the_file(open_bytes):
    assert open_bytes("data.jsonl", THREE).fingerprint() == hashlib.sha256(THREE).hexdigest()


PIECES = [b'{"a": 1}', b'{"a":\n', b'{"b": [\r', b"}", b"]", b"\n", b"\r\n", b"\r", b" ", b"null", b'"x"', b'"{\\"', b",", b"\\", b"\xc3"]


@given(st.lists(st.sampled_from(PIECES), max_size=12), st.integers(1, 9), st.sampled_from([4, 20, jsonl.LAID_OUT_BYTES]))
@settings(max_examples=400, deadline=None)
def test_records_are_cut_alike_at_any_chunk_size_and_from_any_record_on(pieces, chunk, limit):
    data = b"".join(pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl, "LAID_OUT_BYTES", limit)
        frames = list(jsonl.objects(b"", io.BytesIO(data), Start(0, 1)))
        patch.setattr(jsonl, "CHUNK", chunk)
        assert list(jsonl.objects(b"", io.BytesIO(data), Start(0, 1))) == frames
        for number, frame in enumerate(frames):
            start = Start(frame.offset, frame.line, frame.column, frame.by_line_until)
            assert list(jsonl.objects(b"", io.BytesIO(data), start)) == frames[number:]
    at = 0
    for frame in frames:
        between = data[at : frame.offset]
        assert not between.strip()
        before = data[: frame.offset]
        assert frame.line == 1 + len((before + b"x").splitlines()) - 1
        assert frame.column == len((before + b"x").splitlines()[-1])
        at = frame.offset + len(frame.data)
    assert not data[at:].strip()


def test_rows_of_one_line_have_places_of_their_own_and_lines_of_their_own_in_the_output(open_bytes, read_all, split_bytes):
    data = b'{"a": 1} {"a": 2}{"a":\n3}\r\n{"a": 4}{"a": 5'
    source = open_bytes("data.jsonl", data)
    records = read_all(source, 1)
    assert [record.value for record in records] == [{"a": 1}, {"a": 2}, {"a": 3}, {"a": 4}, None]
    assert [record.place for record in records] == [f"data.jsonl:{at}" for at in ("1", "1:10", "1:18", "3", "3:9")]
    assert "at column 16" in records[4].error
    kept, flagged = split_bytes(source, [False, True, False, True, True])
    assert (kept, flagged) == (b'{"a": 1}\n{"a":\n3}\r\n', b'{"a": 2}\n{"a": 4}\n{"a": 5\n')


def test_a_broken_object_over_lines_costs_its_first_line_only(open_bytes, read_all):
    data = b'{"a": [{"b": 1},\n' + b'{"a": 2}\n' * 3 + b'{"a":\n3}\n'
    records = read_all(open_bytes("data.jsonl", data), 2)
    assert [record.value for record in records] == [None, *[{"a": 2}] * 3, {"a": 3}]
    after = read_all(open_bytes("data.jsonl", b'{"a": "x"\n{"a":\n3}\n'), 1)
    assert [record.value for record in after] == [None, {"a": 3}]


def test_one_line_of_many_objects_is_read_shard_by_shard(open_bytes):
    source = open_bytes("data.jsonl", b'{"a": "%s"}' % (b"x" * 50) * 20_000)
    shards = source.plan(5_000)
    assert [shard.column for shard in shards] == [1, *(5_000 * number * 59 + 1 for number in (1, 2, 3))]
    assert sum(record.value is not None for record in source.read(shards[3])) == 5_000


def test_many_lines_that_open_lists_are_cut_in_linear_time(open_bytes):
    source = open_bytes("data.jsonl", b'{"a":[{"b":1},\n' * 100_000)
    started = time.monotonic()
    assert source.plan(50_000)[-1].stop == 100_000
    assert time.monotonic() - started < 30
