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
    [(["only"], None, "only"), (["test", "train"], None, "train"), (["test", "train"], "test", "test")],
)
def test_split_of_a_saved_dict(tmp_path, read_all, splits, wanted, taken):
    source = open_source(saved_dict(tmp_path / "saved", *splits), split=wanted)
    assert [record.value for record in read_all(source)] == [{"a": taken}]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [(None, "it has several splits; choose one of them: a, b"), ("c", "it has no split 'c'; choose one of them: a, b")],
)
def test_split_that_cannot_be_chosen(tmp_path, wanted, message):
    with pytest.raises(UsageError, match=message):
        open_source(saved_dict(tmp_path / "saved", "a", "b"), split=wanted)


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
