"""A split into three parts: every row is in one of them, in order, in each kind of source."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gradsentry.data.sources import Source, open_source
from gradsentry.errors import DataError

ROWS = [{"prompt": f"é{n}", "completion": f"{n}, {n}"} for n in range(11)]
PARTS = [0, 2, 1, 0, 0, 2, 2, 1, 0, 2, 0]


def csv_file(path: Path) -> Source:
    with (path / "d.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["prompt", "completion"])
        writer.writeheader()
        writer.writerows(ROWS)
    return open_source(path / "d.csv")


def text_file(name: str, text: str) -> Callable[[Path], Source]:
    def make(path: Path) -> Source:
        (path / name).write_text(text, encoding="utf-8")
        return open_source(path / name)

    return make


def parquet(path: Path) -> Source:
    pq.write_table(pa.Table.from_pylist(ROWS), path / "d.parquet", row_group_size=3)
    return open_source(path / "d.parquet")


def directory(path: Path) -> Source:
    (path / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(ROWS), path / "data" / "train.parquet")
    return open_source(path / "data", streaming=True)


SOURCES: dict[str, Callable[[Path], Source]] = {
    "jsonl": text_file("d.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS)),
    "json": text_file("d.json", json.dumps(ROWS)),
    "csv": csv_file,
    "parquet": parquet,
    "dataset": lambda path: open_source(datasets.Dataset.from_list(ROWS)),
    "stream": directory,
    "rows": lambda path: open_source(ROWS),
}


def rows_in(path: Path, kind: str) -> list[Any]:
    if kind in ("parquet", "stream"):
        return pq.read_table(path).to_pylist()
    if kind == "dataset":
        return datasets.Dataset.load_from_disk(str(path)).to_list()
    if kind == "csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    if kind == "json":
        return json.loads(path.read_text(encoding="utf-8"))
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("parts", [PARTS, [1] * 11, [2] * 11], ids=["all three", "one", "the last"])
@pytest.mark.parametrize("kind", SOURCES)
def test_each_row_is_in_its_part_and_in_order(kind: str, parts: list[int], tmp_path: Path) -> None:
    source = SOURCES[kind](tmp_path)
    assert source.kind == kind
    paths = [tmp_path / f"{name}.{source.suffix}" for name in ("kept", "flagged", "unexamined")]
    assert source.split(parts, paths) == tuple(map(parts.count, range(3)))
    for part, path in enumerate(paths):
        assert rows_in(path, kind) == [row for row, own in zip(ROWS, parts, strict=True) if own == part]


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("count", [10, 12])
def test_another_number_of_rows_is_refused(kind: str, count: int, tmp_path: Path) -> None:
    source = SOURCES[kind](tmp_path)
    with pytest.raises(DataError, match="rows than were scored"):
        source.split([2] * count, [tmp_path / name for name in "abc"])
