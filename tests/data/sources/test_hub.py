from __future__ import annotations

import json
import re

import datasets
import pytest

from gradsentry.data.sources import open_source
from gradsentry.errors import DataError, UsageError

ROWS = [{"a": "x"}, {"a": "y"}]


def saved_dict(path, *splits):
    datasets.DatasetDict({split: datasets.Dataset.from_list([{"a": split}]) for split in splits}).save_to_disk(path)
    return path


def test_saved_dataset(tmp_path, read_all):
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    source = open_source(tmp_path / "saved")
    assert (source.kind, source.suffix, source.name) == ("dataset", "dataset", str(tmp_path / "saved"))
    records = read_all(source)
    assert [record.value for record in records] == ROWS
    assert records[1].place == "saved row 1"


@pytest.mark.parametrize(
    ("splits", "wanted", "taken"),
    [
        (["only"], None, ["only"]),
        (["test", "train"], None, ["test", "train"]),
        (["a", "b"], None, ["a", "b"]),
        (["test", "train"], "test", ["test"]),
    ],
)
def test_splits_of_a_saved_dict(tmp_path, read_all, splits, wanted, taken):
    source = open_source(saved_dict(tmp_path / "saved", *splits), split=wanted)
    assert [record.value for record in read_all(source)] == [{"a": split} for split in taken]
    left_out = f"{tmp_path / 'saved'}: only the split 'test' is read; it also has train"
    assert source.notes == ((left_out,) if taken == ["test"] else ())


def test_split_that_cannot_be_chosen(tmp_path):
    with pytest.raises(UsageError, match="it has no split 'c'; choose one of them: a, b"):
        open_source(saved_dict(tmp_path / "saved", "a", "b"), split="c")


@pytest.mark.parametrize("shard_rows", [1, 2, 3, 10])
def test_all_splits_are_read_in_order_and_written_split_by_split(tmp_path, read_all, shard_rows):
    rows = {"train": [{"a": f"t{n}"} for n in range(3)], "empty": [], "test": [{"a": f"e{n}"} for n in range(4)]}
    features = datasets.Features({"a": datasets.Value("string")})
    whole = datasets.DatasetDict(
        {name: datasets.Dataset.from_dict({"a": [row["a"] for row in part]}, features=features) for name, part in rows.items()}
    )
    whole.save_to_disk(tmp_path / "saved", num_shards=dict.fromkeys(rows, 1))  # by default an empty split has no file
    for data in (whole, tmp_path / "saved"):
        source = open_source(data)
        records = read_all(source, shard_rows)
        assert [record.value for record in records] == [*rows["train"], *rows["test"]]
        assert [record.row for record in records] == list(range(7))
        assert len({record.place for record in records}) == 7
    assert records[3].place == "saved test row 0"
    assert source.fingerprint() == open_source(tmp_path / "saved").fingerprint()
    flags = [False, True, True, False, False, True, False]
    for wrong in (flags[1:], [*flags, True]):
        with pytest.raises(DataError, match="rows than were scored"):
            source.split(wrong, [tmp_path / "k", tmp_path / "f"])
    assert source.split(flags, [tmp_path / "kept.dataset", tmp_path / "flagged.dataset"]) == (4, 3)
    kept, flagged = (datasets.load_from_disk(str(tmp_path / f"{name}.dataset")) for name in ("kept", "flagged"))
    assert {name: list(part) for name, part in kept.items()} == {
        "train": rows["train"][:1],
        "empty": [],
        "test": [rows["test"][i] for i in (0, 1, 3)],
    }
    assert {name: list(part) for name, part in flagged.items()} == {"train": rows["train"][1:], "empty": [], "test": [rows["test"][2]]}


def folder_of(path, files):
    """A directory of data files, each with one row that names it."""
    path.mkdir()
    for name in files:
        (path / name).parent.mkdir(exist_ok=True)
        if name.endswith(".parquet"):
            datasets.Dataset.from_list([{"a": name}]).to_parquet(path / name)
        else:
            (path / name).write_text(f"a\n{name}\n" if name.endswith(".csv") else json.dumps({"a": name}) + "\n")
    return path


@pytest.mark.parametrize(
    "files",
    [
        ["a.jsonl", "b.jsonl"],
        ["one.parquet", "two.parquet"],
        ["train.jsonl", "test.jsonl"],
        ["train.jsonl", "test.jsonl", "extra.jsonl"],
        ["a.jsonl", "b.csv", "c.parquet", "d.jsonl"],
        ["data/train-00000.parquet", "data/test-00000.parquet", "raw/x.jsonl"],
    ],
)
def test_all_files_of_a_directory_are_read(tmp_path, read_all, files):
    source = open_source(folder_of(tmp_path / "data", files))
    assert sorted(record.value["a"] for record in read_all(source)) == sorted(files)
    assert source.notes == ()


def test_files_that_are_not_read_are_named(tmp_path, read_all):
    folder = folder_of(tmp_path / "data", ["train.jsonl", "test.jsonl", "extra.csv"])
    source = open_source(folder, split="train")
    assert [record.value["a"] for record in read_all(source)] == ["train.jsonl"]
    assert source.notes == (f"{folder}: only the split 'train' is read; it also has test", f"{folder}: not read are the files extra.csv")
    (folder / "broken.jsonl").write_text("{")
    source = open_source(folder)
    assert len(read_all(source)) == 3
    assert [note for note in source.notes if "broken.jsonl: it cannot be loaded" in note]


def test_configurations_of_a_directory(tmp_path, read_all):
    folder = folder_of(tmp_path / "data", ["a.jsonl", "b.jsonl"])
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: one\n  data_files: a.jsonl\n- config_name: two\n  data_files: b.jsonl\n---\n"
    )
    with pytest.raises(UsageError, match="choose one of its configurations with --name: one, two"):
        open_source(folder)
    source = open_source(folder, name="two")
    assert [record.value["a"] for record in read_all(source)] == ["b.jsonl"]
    assert source.notes == (f"{folder}: not read are the files a.jsonl",)
    with pytest.raises(DataError, match="BuilderConfig 'three' not found"):
        open_source(folder, name="three")


def test_a_stream_of_several_splits_must_be_chosen(tmp_path, read_all):
    folder = folder_of(tmp_path / "data", ["train.jsonl", "test.jsonl"])
    with pytest.raises(UsageError, match=r"a stream is read from one split; choose it with --split \(train, test\)"):
        open_source(folder, streaming=True)
    source = open_source(folder, streaming=True, split="test")
    assert [record.value["a"] for record in read_all(source)] == ["test.jsonl"]
    assert source.notes == (f"{folder}: only the split 'test' is read; it also has train",)


def test_a_name_and_a_revision_of_what_has_none_are_refused(tmp_path):
    file = tmp_path / "data.jsonl"
    file.write_text("")
    for data, options, message in [
        (file, {"name": "x"}, "is a file, not a directory or data set on the Hub"),
        (tmp_path, {"revision": "main"}, "is a directory, not a data set on the Hub"),
        ([], {"name": "x"}, "the data is not a directory or data set on the Hub"),
        (saved_dict(tmp_path / "saved", "a"), {"name": "x"}, "is a saved data set without configurations"),
    ]:
        with pytest.raises(UsageError, match=message):
            open_source(data, **options)


def test_damaged_saved_dataset(tmp_path):
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    (tmp_path / "saved" / "state.json").write_text("{")
    with pytest.raises(DataError, match=r"saved: the saved data set cannot be loaded: .*; save it again"):
        open_source(tmp_path / "saved")


@pytest.mark.parametrize("wanted", [None, "train"])
def test_plain_directory(tmp_path, read_all, wanted):
    folder = tmp_path / "plain"
    folder.mkdir()
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert [record.value for record in read_all(open_source(str(folder), split=wanted))] == ROWS


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(("data", "name"), [(".", "."), ("./", "."), ("../plain", "../plain"), ("sub/..", "sub/..")])
def test_a_directory_goes_by_any_name_and_messages_use_the_users(tmp_path, monkeypatch, read_all, data, name, streaming):
    folder = tmp_path / "plain"
    (folder / "sub").mkdir(parents=True)
    monkeypatch.chdir(folder)
    with pytest.raises(DataError, match=rf"^{re.escape(name)}: the directory cannot be loaded as a data set"):
        open_source(data, streaming=streaming)
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    source = open_source(data, streaming=streaming)
    assert source.name == name
    assert [(record.place, record.value) for record in read_all(source)] == [("plain row 0", ROWS[0]), ("plain row 1", ROWS[1])]


@pytest.mark.parametrize("streaming", [False, True])
def test_the_search_of_a_directory_is_logged(tmp_path, caplog, streaming):
    with caplog.at_level("INFO", logger="gradsentry"), pytest.raises(DataError):
        open_source(tmp_path, streaming=streaming)
    assert caplog.messages == [f"looking for data files in {tmp_path}"]


def test_plain_directory_that_cannot_be_loaded(tmp_path):
    with pytest.raises(DataError, match=r"the directory cannot be loaded as a data set: .*; give one of the files"):
        open_source(tmp_path)
    (tmp_path / "data.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(DataError, match=r"cannot be loaded as a data set: .*split"):
        open_source(tmp_path, split="nonsense")


@pytest.mark.parametrize("name", ["nobody/nothing-here", "nothing-here"])
def test_hub_id_offline(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        open_source(name)
    message = str(caught.value)
    assert message.startswith(f"{name}: no file or directory has this name, and as the id of a data set on the Hub")
    assert "OfflineModeIsEnabled" in message
    assert message.endswith("save_to_disk and give that directory")
    assert "\n" not in message


def test_dataset_objects(read_all):
    one = datasets.Dataset.from_list(ROWS)
    assert [record.value for record in read_all(open_source(datasets.DatasetDict(x=one)))] == ROWS
    with pytest.raises(UsageError, match="a single Dataset has no splits"):
        open_source(one, split="train")
