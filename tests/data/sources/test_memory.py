"""Memory does not grow with the data: 40 MB of each kind are planned, read and split within a fraction of that."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROWS = 20_000
"""Of 2 kB each."""
LIMIT = 25
"""MB that the peak may rise by; pyarrow's allocator and the interpreter take some as they please."""

MEASURE = """
import re, sys
from pathlib import Path
import datasets, numpy as np
from gradsentry.data.sources import open_source, tables
from gradsentry.data.sources.stream import StreamSource

tables.GROUP_BYTES = 1 << 20  # rows that wait to be written are held on purpose

def work(kind, folder, rows):
    make = lambda: ({"prompt": f"{n:0>2000}", "completion": "x"} for n in range(rows))
    if kind == "stream":
        source = StreamSource(datasets.IterableDataset.from_generator(make), "stream", "stream", str)
    else:
        source = open_source(folder / f"data.{kind}")
    shards = source.plan(512)
    assert sum(1 for shard in shards for _ in source.read(shard)) == rows
    source.split(np.arange(rows) % 3 == 0, [folder / "kept", folder / "flagged"])

def peak():  # not getrusage: its figure begins with that of the process that started this one
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

kind, small, big, rows = sys.argv[1:]
work(kind, Path(small), int(rows) // 10)
before = peak()
work(kind, Path(big), int(rows))
print(peak() - before)
"""


def random_rows(count: int) -> Iterator[dict[str, str]]:
    for _ in range(count):
        yield {"prompt": os.urandom(1000).hex(), "completion": "x"}


def write(kind: str, folder: Path, count: int) -> str:
    folder.mkdir()
    path = folder / f"data.{kind}"
    if kind == "parquet":  # one row group
        pq.write_table(pa.Table.from_pylist(list(random_rows(count))), path)
    elif kind == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["prompt", "completion"])
            writer.writeheader()
            writer.writerows(random_rows(count))
    elif kind != "stream":
        start, between, end = ("[", ", ", "]") if kind == "json" else ("", "\n", "")
        path.write_text(start + between.join(map(json.dumps, random_rows(count))) + end)
    return str(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet", "stream"])
def test_memory_is_flat(kind: str, tmp_path: Path) -> None:
    arguments = [kind, write(kind, tmp_path / "small", ROWS // 10), write(kind, tmp_path / "big", ROWS), str(ROWS)]
    result = subprocess.run([sys.executable, "-c", MEASURE, *arguments], capture_output=True, text=True, check=True)
    assert float(result.stdout) < LIMIT, "MB more for ten times the rows"
