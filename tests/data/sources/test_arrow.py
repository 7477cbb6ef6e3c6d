"""Tables in memory as data."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import gradsentry
from answered import ROWS
from answered import run as scanned
from gradsentry.data.sources import open_source
from gradsentry.errors import DataError, UsageError


class Frame:
    """What polars and others give: Arrow data behind the protocol, and no more."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: Any = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


TABLES: dict[str, Any] = {
    "pandas": pd.DataFrame(ROWS),
    "table": pa.Table.from_pylist(ROWS),
    "chunked": pa.concat_tables([pa.Table.from_pylist(ROWS[:7]), pa.Table.from_pylist(ROWS[7:])]),
    "batch": pa.RecordBatch.from_pylist(ROWS),
    "protocol": Frame(pa.Table.from_pylist(ROWS)),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_has_the_rows_of_a_list(kind: str) -> None:
    source = open_source(TABLES[kind])
    assert source.kind == "table"
    records = [record for shard in source.plan(16) for record in source.read(shard)]
    assert [record.value for record in records] == ROWS
    assert [record.row for record in records] == list(range(60))
    assert records[5].place == "table row 5"
    again = pickle.loads(pickle.dumps(source))
    assert again.fingerprint() == source.fingerprint()


def test_the_fingerprint_is_of_types_and_values() -> None:
    prints = {kind: open_source(table).fingerprint() for kind, table in TABLES.items()}
    assert prints["table"] == prints["chunked"] == prints["batch"] == prints["protocol"]
    other = pa.Table.from_pylist([*ROWS[:-1], ROWS[-1] | {"completion": "x"}])
    assert open_source(other).fingerprint() != prints["table"]
    renamed = TABLES["table"].rename_columns(["question", "completion", "id"])
    assert open_source(renamed).fingerprint() != prints["table"]


def test_a_scanned_frame_keeps_its_index_and_types(model_dir: Path, tmp_path: Path) -> None:
    frame = pd.DataFrame(ROWS, index=pd.Index([f"r{i}" for i in range(60)], name="key")).astype({"id": "int16"})
    result = scanned(frame, model_dir, tmp_path / "run")
    assert result.flagged
    for name, rows in (("kept", result.kept), ("flagged", result.flagged)):
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "run" / f"{name}.parquet"), frame.iloc[rows], check_dtype=False)
    pd.testing.assert_frame_equal(result.clean(frame), frame.iloc[result.kept])
    expected = scanned(ROWS, model_dir)
    assert result.decision.verdicts.equals(expected.decision.verdicts)
    assert {row["path"] for row in result.document["rows"]} == {None}


def test_missing_cells_of_a_frame_are_problems_of_their_rows(model_dir: Path) -> None:
    frame = pd.DataFrame([*ROWS[:3], {"prompt": "a", "completion": np.nan}, {"completion": "b"}])
    result = gradsentry.scan(frame, model_dir)
    assert result.unexamined == [3]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            pd.DataFrame({"prompt": ["a", 7], "completion": ["b", "c"]}),
            r"the DataFrame cannot be read as an Arrow table: .*give its column",
        ),
        (pa.table([["a"], ["b"]], names=["prompt", "prompt"]), "the Table has several columns that are named 'prompt'"),
        (pd.DataFrame([["a", "b"]], columns=["prompt", "prompt"]), "DataFrame cannot be read"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_as_a_whole(frame: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_source(frame)


def test_a_table_has_no_splits() -> None:
    with pytest.raises(UsageError, match="a table has no splits"):
        open_source(TABLES["table"], split="train")
