"""Workers that are spawned get their source pickled: each kind reads the same there, whatever was read before."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gradsentry.data.sources import open_source

ROWS = [{"a": f"é{n}", "b": str(n)} for n in range(9)]


def data_of(kind, folder):
    """The rows as a source of the kind."""
    path = folder / f"data.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    elif kind == "json":
        path.write_text(json.dumps(ROWS))
    elif kind == "csv":
        path.write_text("a,b\n" + "".join(f"{row['a']},{row['b']}\n" for row in ROWS), encoding="utf-8")
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=4)
    elif kind == "saved":
        datasets.Dataset.from_list(ROWS).save_to_disk(path)
    elif kind == "dataset":
        return datasets.Dataset.from_list(ROWS)
    elif kind == "stream":
        return datasets.Dataset.from_list(ROWS).to_iterable_dataset()
    else:
        return ROWS
    return path


CODE = """
import pickle, sys
source, shards = pickle.load(sys.stdin.buffer)
print([record.value for shard in shards for record in source.read(shard)])
"""


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet", "saved", "dataset", "stream", "rows"])
def test_another_process_reads_the_same(kind, tmp_path):
    source = open_source(data_of(kind, tmp_path))
    shards = source.plan(4)
    next(source.read(shards[0]))  # leaves something open
    handed = pickle.dumps((source, shards[1:]))
    result = subprocess.run([sys.executable, "-c", CODE], input=handed, capture_output=True, check=True)
    assert result.stdout.decode().strip() == str(ROWS[4:])
    assert pickle.loads(handed)[0].fingerprint() == source.fingerprint()
