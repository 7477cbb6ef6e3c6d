from __future__ import annotations

import subprocess
import sys

import pytest

from gradsentry.data.sources import open_source
from gradsentry.errors import DataError, UsageError


@pytest.mark.parametrize(
    ("data", "kind"), [(b' \n[{"a": 1}]', "json"), (b'{"a": 1}\n{"a": 2}\n', "jsonl"), (b"", "jsonl"), (b"\n", "jsonl")]
)
@pytest.mark.parametrize("name", ["data.json", "data.jsonl", "data.ndjson"])
def test_the_content_decides_between_array_and_lines(open_bytes, name, data, kind):
    source = open_bytes(name, data)
    assert (source.kind, source.suffix) == (kind, kind)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("data.jsonl.gz", b"\x1f\x8b", "it is compressed; unpack it"),
        ("data.jsonl", b"\x1f\x8b\x08", "compressed with gzip; unpack it"),
        ("data.xlsx", b"", "files that end in '.xlsx' are not read. gradsentry reads .jsonl"),
        ("data", b"", "a file without a suffix is not read. gradsentry reads .jsonl"),
    ],
)
def test_files_that_are_not_read(write, name, data, message):
    with pytest.raises(DataError) as caught:
        open_source(write(name, data))
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["missing.jsonl", "a/b/c", "./missing", "/missing/data", "x.csv.gz", "a b", "\0"])
def test_nothing_there(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"no such file or directory|cannot be loaded"):
        open_source(name)


def test_no_data_is_not_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(UsageError, match="no data given; give a path"):
        open_source("")


def test_a_missing_path_object_is_not_looked_up_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="no such file or directory"):
        open_source(tmp_path.relative_to(tmp_path) / "nobody" / "nothing")


def test_a_pipe_is_refused(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(DataError, match="not a regular file"):
        open_source(tmp_path / "pipe.jsonl")


def test_a_split_of_what_has_none_is_refused(write):
    with pytest.raises(UsageError, match="is a single file and has no splits"):
        open_source(write("data.jsonl", b""), split="train")
    with pytest.raises(UsageError, match="rows in memory have no splits"):
        open_source([], split="train")


@pytest.mark.parametrize("data", [b"data.jsonl", 7, None, iter([{"a": 1}])])
def test_what_is_no_data_set_is_refused(data):
    with pytest.raises(UsageError, match="cannot be read as a data set"):
        open_source(data)


def test_importing_the_sources_imports_no_heavy_library():
    code = "import sys, gradsentry.data.sources; print(sorted({'datasets', 'pyarrow', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
