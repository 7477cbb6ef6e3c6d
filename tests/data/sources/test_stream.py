"""Streams against the rows that they were made of: shards in any order, both halves of a split, what is refused."""

from __future__ import annotations

import gc
import json
import pickle
import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gradsentry.data.sources import open_source, tables
from gradsentry.data.sources.stream import StreamSource
from gradsentry.errors import DataError, UsageError

ROWS = [{"text": f"é{n}", "turns": [{"role": "user", "content": str(n)}] * (n % 3), "n": n} for n in range(25)]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Batches of four rows, so that 25 rows are many."""
    monkeypatch.setattr("gradsentry.data.sources.stream.BATCH_ROWS", 4)


def generate(rows: list[dict]) -> Iterator[dict]:
    yield from rows


def directory(path: Path, kind: str, rows: list[dict] = ROWS) -> Path:
    """The rows in three files."""
    path.mkdir()
    for part in range(3):
        chunk = rows[part * 10 : part * 10 + 10]
        if kind == "jsonl":
            (path / f"part-{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chunk))
        else:
            pq.write_table(pa.Table.from_pylist(chunk), path / f"part-{part}.parquet", row_group_size=3)
    return path


def stream_of(kind: str) -> datasets.IterableDataset:
    """The rows as each sort of stream that `datasets` makes: in tables, as Python objects, without types, mapped."""
    dataset = datasets.Dataset.from_list(ROWS)
    if kind == "tables":
        return dataset.to_iterable_dataset(num_shards=3)
    if kind == "objects":
        return datasets.IterableDataset.from_generator(generate, gen_kwargs={"rows": ROWS}, features=dataset.features)
    if kind == "untyped":
        return datasets.IterableDataset.from_generator(generate, gen_kwargs={"rows": ROWS})
    if kind == "mapped":
        return dataset.to_iterable_dataset().map(dict)
    return dataset.to_iterable_dataset().with_format("numpy")


def rows_of(source, shard_rows: int = 7) -> list:
    return [record.value for shard in source.plan(shard_rows) for record in source.read(shard)]


def check(source, read_all, folder: Path) -> None:
    """The source gives ROWS in both directions, keeps the types when it splits, and goes through a pickle."""
    assert (source.kind, source.suffix) == ("stream", "parquet")
    assert rows_of(source) == ROWS
    records = read_all(source, 7)
    assert [record.value for record in records] == ROWS
    assert [record.row for record in records] == list(range(25))
    flags = [row["n"] % 5 == 1 for row in ROWS]
    assert source.split(flags, [folder / "kept", folder / "flagged"]) == (20, 5)
    assert pq.read_table(folder / "kept").to_pylist() == [row for row in ROWS if row["n"] % 5 != 1]
    assert pq.read_table(folder / "flagged").to_pylist() == [row for row in ROWS if row["n"] % 5 == 1]
    other = pickle.loads(pickle.dumps(source))
    assert [record.value for record in other.read(source.plan(7)[2])] == ROWS[14:21]
    assert other.fingerprint() == source.fingerprint()


@pytest.mark.parametrize("kind", ["tables", "objects", "untyped", "mapped", "numpy"])
def test_a_stream_from_a_caller_is_copied_and_read_as_a_data_set(kind, read_all, tmp_path):
    source = open_source(stream_of(kind))
    assert (source.kind, source.suffix, source.name) == ("dataset", "dataset", "stream")
    records = read_all(source, 7)
    assert [(record.row, record.place, record.value) for record in records] == [(n, f"stream row {n}", ROWS[n]) for n in range(25)]
    assert source.fingerprint() == open_source(stream_of(kind)).fingerprint()
    assert source.fingerprint() != open_source(stream_of(kind).take(24)).fingerprint()
    flags = [row["n"] % 5 == 1 for row in ROWS]
    assert source.split(flags, [tmp_path / "kept", tmp_path / "flagged"]) == (20, 5)
    kept = datasets.load_from_disk(str(tmp_path / "kept"))
    assert kept.to_list() == [row for row in ROWS if row["n"] % 5 != 1]
    assert kept.features == datasets.Dataset.from_list(ROWS).features
    other = pickle.loads(pickle.dumps(source))
    assert [record.value for record in other.read(source.plan(7)[2])] == ROWS[14:21]
    assert other.fingerprint() == source.fingerprint()


def copies() -> set[Path]:
    gc.collect()  # sources of other tests
    return set(Path(datasets.config.HF_DATASETS_CACHE).glob("gradsentry-*"))


def test_the_copy_of_a_stream_is_deleted_with_its_source_and_where_it_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)  # other test processes use the same cache
    before = copies()
    source = open_source(stream_of("objects"))
    assert len(copies() - before) == 1
    del source
    assert copies() == before
    with pytest.raises(DataError):
        open_source(datasets.IterableDataset.from_generator(generate, gen_kwargs={"rows": [{"a": 1}, {"a": "x"}]}))
    assert copies() == before


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_directories(kind, read_all, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    before = set(cache.rglob("*.arrow"))
    source = open_source(directory(tmp_path / "data", kind), streaming=True)
    check(source, read_all, tmp_path)
    assert next(source.read(source.plan(7)[1])).place == "data row 7"
    assert set(cache.rglob("*.arrow")) == before, "no copy is made"


def test_one_giant_row_group_in_a_directory_is_not_held(tmp_path, monkeypatch):
    monkeypatch.undo()  # batches of their real size
    table = pa.table({"text": [random.randbytes(500).hex() for _ in range(40_000)]})
    (tmp_path / "data").mkdir()
    pq.write_table(table, tmp_path / "data" / "data.parquet")
    size = table.nbytes
    del table
    source = open_source(tmp_path / "data", streaming=True)
    before = peak = pa.total_allocated_bytes()
    for shard in source.plan(512):
        for _ in source.read(shard):
            peak = max(peak, pa.total_allocated_bytes())
    assert peak - before < size / 4


def test_the_fingerprint_of_a_directory_follows_its_files(tmp_path):
    one = open_source(directory(tmp_path / "one", "jsonl"), streaming=True).fingerprint()
    assert one == open_source(directory(tmp_path / "same", "jsonl"), streaming=True).fingerprint()
    other = directory(tmp_path / "other", "jsonl")
    (other / "part-2.jsonl").write_text('{"text": "else", "turns": [], "n": 1}\n')
    assert one != open_source(other, streaming=True).fingerprint()


def test_what_is_saved_or_a_file_is_read_as_ever(tmp_path):
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    assert open_source(tmp_path / "saved", streaming=True).kind == "dataset"
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "data.parquet")
    assert open_source(tmp_path / "data.parquet", streaming=True).kind == "parquet"


def test_shards_in_order_are_one_pass(tmp_path):
    passes = []

    class Counted(StreamSource):
        def _batches(self, stream):
            passes.append(1)
            return super()._batches(stream)

    source = Counted(stream_of("tables"), "stream", "stream", str, rows=25)
    shards = source.plan(3)
    assert passes == [], "the description has the row count and the types"
    assert sum(len(list(source.read(shard))) for shard in shards[::2]) == 13
    assert len(passes) == 1
    list(source.read(shards[0]))
    assert len(passes) == 2, "back to the start is another pass"
    bare = Counted(stream_of("untyped"), "stream", "stream", str)
    assert rows_of(bare) == ROWS
    assert len(passes) == 4, "one pass finds both, another one reads"


@pytest.mark.parametrize(("described", "how"), [(24, "more"), (26, "fewer")])
def test_a_description_with_another_row_count(described, how):
    source = StreamSource(stream_of("tables"), "org/data", "org/data", str, rows=described)
    with pytest.raises(DataError, match=f"org/data: it has {how} rows than the {described} of its description; read it without"):
        rows_of(source)


def hub_builder(path: Path, monkeypatch, commit: str) -> None:
    """Have `datasets` find a builder of the Hub's sort for org/data: it knows commit and rows; the files are local."""
    builder = datasets.load_dataset_builder(str(path))
    splits = {"train": SimpleNamespace(num_examples=25)}
    fake = SimpleNamespace(
        name=builder.name,
        repo_id="org/data",
        hash=commit,
        config=builder.config,
        builder_configs=builder.builder_configs,
        info=SimpleNamespace(splits=splits),
        as_streaming_dataset=builder.as_streaming_dataset,
    )
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda where, config, revision: {"org/data": fake}[where])


def test_hub_id(tmp_path, monkeypatch, caplog):
    folder = directory(tmp_path / "data", "jsonl")
    hub_builder(folder, monkeypatch, "c0ffee")
    source = open_source("org/data", streaming=True)
    assert source.fingerprint() == "org/data@c0ffee default train"
    assert rows_of(source) == ROWS
    assert "once" not in caplog.text, "nothing has to be counted"
    monkeypatch.undo()
    hub_builder(folder, monkeypatch, "beef")
    assert open_source("org/data", streaming=True).fingerprint() != source.fingerprint()
    with pytest.raises(UsageError, match="it has no split 'test'; choose one of them: train"):
        open_source("org/data", streaming=True, split="test")


def test_a_hub_id_that_cannot_be_reached_and_a_directory_without_data(tmp_path):
    with pytest.raises(DataError, match=r"nobody/nothing: no file or directory has this name, and as the id .*OfflineMode"):
        open_source("nobody/nothing", streaming=True)
    with pytest.raises(DataError, match="the directory cannot be loaded as a data set"):
        open_source(tmp_path, streaming=True)


def test_split_of_streams(tmp_path):
    one = stream_of("tables")
    with pytest.raises(UsageError, match="a single IterableDataset has no splits"):
        open_source(one, split="train")
    assert rows_of(open_source(datasets.IterableDatasetDict(a=one, b=one.take(2)), split="b")) == ROWS[:2]


def random_rows() -> Iterator[dict]:
    yield from ({"n": random.random()} for _ in range(9))


def test_a_stream_is_read_once_so_it_may_change_or_end_after_it():
    source = open_source(datasets.IterableDataset.from_generator(random_rows))
    assert rows_of(source) == rows_of(source)
    rows = iter(ROWS)
    assert rows_of(open_source(datasets.IterableDataset.from_generator(lambda: rows))) == ROWS
    shuffled = stream_of("tables").shuffle(seed=3, buffer_size=9)
    assert rows_of(open_source(shuffled)) == list(shuffled)


def test_a_stream_without_end_is_refused():
    with pytest.raises(UsageError, match=r"repeated without end; leave out repeat\(\), or take\(n\)"):
        open_source(stream_of("tables").repeat(None).map(dict))
    assert len(rows_of(open_source(stream_of("tables").repeat(2)))) == 50


def test_rows_of_types_that_do_not_agree(tmp_path):
    def stream(values):
        return datasets.IterableDataset.from_generator(generate, gen_kwargs={"rows": [{"a": value} for value in values]})

    assert [row["a"] for row in rows_of(open_source(stream([None] * 5 + [1, 2.5])))] == [None] * 5 + [1, 2.5]
    with pytest.raises(DataError, match=r"stream: its rows from 4 on cannot be read: .*'x'.*; mend the data, or"):
        open_source(stream([1] * 5 + ["x", 1]))
    known = StreamSource(stream([None] * 5 + [1, 2.5]), "data", "data", str)
    assert [row["a"] for row in rows_of(known)] == [None] * 5 + [1, 2.5]
    with pytest.raises(DataError, match=r"data: its rows from 4 on cannot be read: .*'x'.*; mend the data, or"):
        StreamSource(stream([1] * 5 + ["x", 1]), "data", "data", str).plan(3)
    for open_it in (open_source, lambda data: StreamSource(data, "data", "data", str).plan(3)):
        with pytest.raises(DataError, match=r": a column has several types: .*; give its columns types that fit"):
            open_it(stream([1] * 4 + ["x"]))
    late = open_source(stream([None] * 5 + [{"x": 1}, {"y": "z"}]))
    assert [row["a"] for row in rows_of(late)] == [None] * 5 + [{"x": 1, "y": None}, {"x": None, "y": "z"}]


def test_a_broken_line_in_a_directory_is_reported(tmp_path):
    folder = directory(tmp_path / "data", "jsonl")
    (folder / "part-1.jsonl").write_text('{"text": \n')
    with pytest.raises(DataError, match=r"data: its rows from \d+ on cannot be read: .*; mend the data, or"):
        rows_of(open_source(folder, streaming=True))


@pytest.mark.parametrize("as_tables", [True, False])
@pytest.mark.parametrize("copied", [True, False])
def test_media_stay_as_stored_and_json_is_decoded(tmp_path, as_tables, copied):
    image = {"bytes": b"no image at all", "path": None}
    features = datasets.Features({"image": datasets.Image(), "meta": datasets.Json()})
    table = pa.Table.from_pylist([{"image": image, "meta": '{"a": [1, "x"]}'}], schema=features.arrow_schema)
    stream = datasets.Dataset(datasets.table.InMemoryTable(table)).to_iterable_dataset()
    if not as_tables:
        rows = [{"image": image, "meta": {"a": [1, "x"]}}]
        stream = datasets.IterableDataset.from_generator(generate, features=features, gen_kwargs={"rows": rows})
    source = open_source(stream) if copied else StreamSource(stream, "data", "data", str, arrow=as_tables)
    assert rows_of(source) == [{"image": image, "meta": {"a": [1, "x"]}}]
    source.split([False], [tmp_path / "kept", tmp_path / "flagged"])
    kept = datasets.load_from_disk(str(tmp_path / "kept")).features if copied else None
    assert (kept or datasets.Features.from_arrow_schema(pq.read_schema(tmp_path / "kept"))) == features


def test_no_rows(tmp_path):
    source = StreamSource(datasets.IterableDataset.from_generator(generate, gen_kwargs={"rows": []}), "data", "data", str)
    assert source.plan(3) == []
    assert source.split([], [tmp_path / "kept", tmp_path / "flagged"]) == (0, 0)
    assert open_source(datasets.IterableDataset.from_generator(generate, gen_kwargs={"rows": []})).plan(3) == []


@pytest.mark.parametrize(("flags", "how"), [([False] * 24, "more"), ([False] * 26, "fewer")])
def test_another_number_of_flags_is_refused(tmp_path, flags, how):
    for source in (open_source(stream_of("tables")), StreamSource(stream_of("tables"), "data", "data", str)):
        with pytest.raises(DataError, match=f"it has {how} rows than were scored"):
            source.split(flags, [tmp_path / "k", tmp_path / "f"])


def test_written_row_groups_are_of_a_bounded_size(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "GROUP_BYTES", 400)
    StreamSource(stream_of("tables"), "data", "data", str).split([False] * 25, [tmp_path / "kept", tmp_path / "flagged"])
    meta = pq.ParquetFile(tmp_path / "kept").metadata
    assert 1 < meta.num_row_groups < 7
    assert meta.num_rows == 25
