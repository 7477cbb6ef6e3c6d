"""How often the source of a text file opens and reads it: framing and fingerprint share one pass."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pytest

from gradsentry.data.sources import open_source, text_file

ROWS = [{"prompt": f"é{n}" * 40, "completion": str(n)} for n in range(5000)]


class CountingFile(io.FileIO):
    """Adds the number of bytes of each read to `reads`."""

    reads: list[int]

    def readinto(self, buffer) -> int | None:
        count = super().readinto(buffer)
        self.reads.append(count or 0)
        return count


@pytest.fixture
def opened(monkeypatch) -> list[list[int]]:
    """For each time that a text source opens its file, the bytes of every read."""
    opened: list[list[int]] = []

    def open_binary(path: Path) -> io.BufferedReader:
        file = CountingFile(path)
        file.reads = []
        opened.append(file.reads)
        return io.BufferedReader(file)

    monkeypatch.setattr(text_file, "open_binary", open_binary)
    return opened


def lines(mark: bytes = b"") -> bytes:
    return mark + b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)


def table() -> bytes:
    return "".join(["prompt,completion\n", *(f"{row['prompt']},{row['completion']}\n" for row in ROWS)]).encode()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("data.jsonl", lines()),
        ("data.jsonl", lines(b"\xef\xbb\xbf")),
        ("data.json", json.dumps(ROWS).encode() + b"\n \n"),
        ("data.csv", table()),
    ],
)
def test_a_scan_reads_a_text_file_once_to_plan_and_once_to_score(tmp_path, opened, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    source = open_source(path)
    opened.clear()  # a few bytes at the beginning decide on the layout
    shards = source.plan(512)
    assert source.fingerprint() == hashlib.sha256(data).hexdigest()
    assert [sum(reads) for reads in opened] == [len(data)], "one pass frames the records and hashes the bytes"
    opened.clear()
    assert [record.value for shard in shards for record in source.read(shard)] == ROWS
    assert len(opened) == len(shards)
    assert sum(map(sum, opened)) < len(data) + len(shards) * (1 << 17), "each shard reads its rows and little more"


def test_the_fingerprint_needs_no_plan(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(lines())
    assert open_source(path).fingerprint() == hashlib.sha256(lines()).hexdigest()
