from __future__ import annotations

import datetime
import hashlib

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gradsentry.data.fields import Unreadable
from gradsentry.data.sources import open_source, tables
from gradsentry.errors import DataError

NESTED = [{"messages": [{"role": "user", "content": f"q{n}"}] * (n % 3), "n": n, "t": None} for n in range(10)]


@pytest.fixture
def parquet(tmp_path):
    """Ten nested rows in row groups of four."""
    path = tmp_path / "data.parquet"
    pq.write_table(pa.Table.from_pylist(NESTED).replace_schema_metadata({"k": "v"}), path, row_group_size=4)
    return path


@pytest.mark.parametrize("shard_rows", [1, 3, 4, 100])
def test_parquet_rows_across_row_groups(parquet, read_all, shard_rows):
    source = open_source(parquet)
    records = read_all(source, shard_rows)
    assert [record.value for record in records] == NESTED
    assert records[6].place == "data.parquet row 6"
    assert source.fingerprint() == hashlib.sha256(parquet.read_bytes()).hexdigest()


def test_parquet_split_keeps_rows_and_schema(parquet, tmp_path):
    flags = [n in (1, 8, 9) for n in range(10)]
    counts = open_source(parquet).split(flags, [tmp_path / "kept", tmp_path / "flagged"])
    assert counts == (7, 3)
    for name, wanted in (("kept", False), ("flagged", True)):
        table = pq.read_table(tmp_path / name)
        assert table.to_pylist() == [row for row, flag in zip(NESTED, flags, strict=True) if flag == wanted]
        assert table.schema.equals(pq.read_schema(parquet), check_metadata=True)


@pytest.mark.parametrize("kind", [pa.string_view(), pa.binary_view(), pa.list_(pa.string_view()), pa.struct([("x", pa.string_view())])])
def test_parquet_split_of_types_that_arrow_does_not_filter(tmp_path, read_all, kind):
    texts = [f"{n} is a text too long to stand within a view" for n in range(9)] + [None]
    values = {"list": [[text, "x"] for text in texts], "struct": [{"x": text} for text in texts]}
    table = pa.table({"a": pa.array(values.get(str(kind).partition("<")[0], texts), kind), "n": range(10)})
    pq.write_table(table, tmp_path / "views.parquet")
    source = open_source(tmp_path / "views.parquet")
    assert [record.value for record in read_all(source)] == table.to_pylist()
    for number, flags in enumerate(([n in (1, 6, 7, 9) for n in range(10)], [True] * 10)):
        kept, flagged = tmp_path / f"kept{number}", tmp_path / f"flagged{number}"
        assert source.split(flags, [kept, flagged]) == (flags.count(False), flags.count(True))
        for path, wanted in ((kept, False), (flagged, True)):
            part = pq.read_table(path)
            assert part.schema.equals(pq.read_schema(tmp_path / "views.parquet"), check_metadata=True)
            assert part.to_pylist() == [row for row, flag in zip(table.to_pylist(), flags, strict=True) if flag == wanted]


@pytest.mark.parametrize("flags", [[False] * 9, [True] * 11])
def test_parquet_another_number_of_flags_is_refused(parquet, tmp_path, flags):
    with pytest.raises(DataError, match="rows than were scored"):
        open_source(parquet).split(flags, [tmp_path / "k", tmp_path / "f"])


def test_parquet_without_rows(tmp_path):
    pq.write_table(pa.table({"a": pa.array([], pa.string())}), tmp_path / "e.parquet")
    source = open_source(tmp_path / "e.parquet")
    assert source.plan(5) == []
    assert source.split([], [tmp_path / "k", tmp_path / "f"]) == (0, 0)
    assert pq.read_table(tmp_path / "k").column_names == ["a"]


def test_shards_in_order_open_a_row_group_once(parquet, monkeypatch):
    source, opened = open_source(parquet), []
    tables = source._tables
    monkeypatch.setattr(source._reader, "_open_at", lambda row: opened.append(row) or tables(row))
    for shard in source.plan(3):
        list(source.read(shard))
    assert opened == [0], "one pass"
    shards = source.plan(1)
    list(source.read(shards[9]))
    list(source.read(shards[0]))
    assert opened == [0, 0], "the last row was at hand; the first one starts again"
    list(source.read(shards[8]))
    assert opened == [0, 0, 8], "a row group further on is reached without those before it"


def test_interleaved_reads_do_not_disturb_each_other(parquet):
    source = open_source(parquet)
    (whole,) = source.plan(10)
    early, late = source.read(whole), source.read(source.plan(5)[1])
    assert [next(early).value, next(late).value, *(record.value for record in late)] == [NESTED[0], *NESTED[5:]]
    assert [record.value for record in early] == NESTED[1:]


def test_one_giant_row_group_is_not_held(tmp_path):
    cells = np.random.default_rng(0).integers(0, 256, (40_000, 500), dtype=np.uint8)
    table = pa.table({"text": pa.array([cell.tobytes().hex() for cell in cells])})
    pq.write_table(table, tmp_path / "data.parquet")
    size = table.nbytes
    del table
    source = open_source(tmp_path / "data.parquet")
    assert source._file.num_row_groups == 1
    before = peak = pa.total_allocated_bytes()
    for shard in source.plan(512):
        for _ in source.read(shard):
            peak = max(peak, pa.total_allocated_bytes())
    assert peak - before < size / 4


def with_unreadable_cells() -> pa.Table:
    """Three rows: text that is not UTF-8 in the second, a date beyond Python's in the third."""
    text = pa.StringArray.from_buffers(3, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xffc"))
    return pa.table({"prompt": ["p", "q", "r"], "source": text, "made": pa.array([0, 1, 2**60], pa.timestamp("ms"))})


def check_unreadable(records):
    epoch = datetime.datetime(1970, 1, 1)
    assert [record.error for record in records] == [""] * 3
    assert [record.value["prompt"] for record in records] == ["p", "q", "r"]
    assert records[0].value == {"prompt": "p", "source": "a", "made": epoch}
    assert records[1].value["made"] == epoch + datetime.timedelta(milliseconds=1)
    assert records[2].value["source"] == "c"
    text, date = records[1].value["source"], records[2].value["made"]
    assert isinstance(text, Unreadable)
    assert text.reason.startswith("'utf-8' codec can't decode")
    assert isinstance(date, Unreadable)
    assert date.reason


@pytest.mark.parametrize("shard_rows", [1, 10])
def test_a_value_that_cannot_be_read_is_one_unreadable_cell(tmp_path, read_all, shard_rows):
    pq.write_table(with_unreadable_cells(), tmp_path / "bad.parquet")
    check_unreadable(read_all(open_source(tmp_path / "bad.parquet"), shard_rows))
    dataset = datasets.Dataset(datasets.table.InMemoryTable(with_unreadable_cells()))
    check_unreadable(read_all(open_source(dataset), shard_rows))
    check_unreadable(read_all(open_source(dataset.to_iterable_dataset()), shard_rows))


def test_the_column_of_an_unreadable_cell_is_searched_by_halves(tmp_path, monkeypatch):
    table = with_unreadable_cells()
    many = pa.concat_tables([table.slice(0, 1)] * 1000 + [table.slice(1, 1)] + [table.slice(0, 1)] * 23)
    pq.write_table(many, tmp_path / "bad.parquet")
    source, reads = open_source(tmp_path / "bad.parquet"), []
    read = tables._cells
    monkeypatch.setattr(tables, "_cells", lambda *a: reads.append(a) or read(*a))
    (shard,) = source.plan(2000)
    assert [r.row for r in source.read(shard) if isinstance(r.value["source"], Unreadable)] == [1000]
    assert len(reads) < 30


def test_media_stay_as_stored_beside_an_unreadable_cell(read_all):
    image = {"bytes": b"no image at all", "path": None}
    bad = with_unreadable_cells()["source"]
    features = datasets.Features({"image": datasets.Image(), "source": datasets.Value("string")})
    stored = pa.array([image] * 3, datasets.Features({"image": datasets.Image()}).arrow_schema.field("image").type)
    dataset = datasets.Dataset(datasets.table.InMemoryTable(pa.table({"image": stored, "source": bad}, schema=features.arrow_schema)))
    for source in (open_source(dataset), open_source(dataset.to_iterable_dataset())):
        assert [record.value["image"] for record in read_all(source)] == [image] * 3


def test_what_is_no_parquet_file_is_refused(write):
    with pytest.raises(DataError, match="not a readable Parquet file"):
        open_source(write("data.parquet", b"PAR1 but not really"))


def test_a_damaged_row_group_is_reported(parquet):
    data = bytearray(parquet.read_bytes())
    data[4:400] = b"\xff" * 396
    parquet.write_bytes(data)
    source = open_source(parquet)
    with pytest.raises(DataError, match=r"row group 0 \(rows 0 to 3\) cannot be read"):
        list(source.read(source.plan(2)[0]))


def test_repeated_column_names_are_refused(tmp_path):
    pq.write_table(pa.table([[1], [2]], names=["a", "a"]), tmp_path / "two.parquet")
    with pytest.raises(DataError, match="several columns are named 'a'"):
        open_source(tmp_path / "two.parquet")


def test_dataset_rows_split_and_fingerprint(tmp_path, read_all, capfd):
    dataset = datasets.Dataset.from_list(NESTED)
    source = open_source(dataset)
    records = read_all(source, 3)
    assert [record.value for record in records] == NESTED
    assert records[4].place == "dataset row 4"
    assert source.fingerprint() == dataset._fingerprint
    assert source.split([n > 6 for n in range(10)], [tmp_path / "kept", tmp_path / "flagged"]) == (7, 3)
    assert datasets.load_from_disk(str(tmp_path / "kept")).to_list() == NESTED[:7]
    assert datasets.load_from_disk(str(tmp_path / "flagged")).to_list() == NESTED[7:]
    assert capfd.readouterr().out == ""


def test_dataset_split_into_all_and_nothing(tmp_path):
    source = open_source(datasets.Dataset.from_list(NESTED))
    assert source.split([False] * 10, [tmp_path / "kept", tmp_path / "flagged"]) == (10, 0)
    empty = datasets.load_from_disk(str(tmp_path / "flagged"))
    assert (len(empty), empty.column_names) == (0, ["messages", "n", "t"])


def test_a_format_that_was_set_does_not_hide_columns(read_all):
    dataset = datasets.Dataset.from_list(NESTED).with_format("numpy", columns=["n"])
    assert [record.value for record in read_all(open_source(dataset))] == NESTED


def test_images_are_not_decoded_at_any_depth_but_json_is(read_all, tmp_path):
    image = {"bytes": b"no image at all", "path": None}
    features = datasets.Features({"image": datasets.Image(), "pages": datasets.List({"scan": datasets.Image()}), "meta": datasets.Json()})
    stored = {"image": image, "pages": [{"scan": image}], "meta": '{"a": [1, "x"]}'}
    # Built from Arrow, because `datasets` encodes images only where Pillow is installed.
    table = pa.Table.from_pylist([stored], schema=features.arrow_schema)
    source = open_source(datasets.Dataset(datasets.table.InMemoryTable(table)))
    assert [record.value for record in read_all(source)] == [stored | {"meta": {"a": [1, "x"]}}]
    source.split([False], [tmp_path / "kept", tmp_path / "flagged"])
    assert datasets.load_from_disk(str(tmp_path / "kept")).features == features
