"""A scan of a stream says what a scan of the same rows in a list says, and goes on and decides again like any other."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest

import gradsentry
from answered import THRESHOLD
from gradsentry.errors import RunError

ROWS = [{"prompt": f"What is {n}?", "completion": " one two three four"[: 1 + n % 19]} for n in range(40)]
OPTIONS = {"shard_rows": 16, "threshold": THRESHOLD}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir()
    for part in range(2):
        lines = [json.dumps(row) + "\n" for row in ROWS[part * 20 : part * 20 + 20]]
        (path / f"part-{part}.jsonl").write_text("".join(lines))
    return path


def test_an_iterable_dataset(model_dir: Path, tmp_path: Path) -> None:
    expected = gradsentry.scan(ROWS, model_dir, **OPTIONS)
    result = gradsentry.scan(datasets.Dataset.from_list(ROWS).to_iterable_dataset(), model_dir, tmp_path / "run", **OPTIONS)
    assert result.decision.verdicts.equals(expected.decision.verdicts)
    for name, rows in (("kept", expected.kept), ("flagged", expected.flagged)):
        assert datasets.load_from_disk(str(tmp_path / "run" / f"{name}.dataset")).to_list() == [ROWS[row] for row in rows]


def test_a_directory_goes_on_and_is_decided_again(folder: Path, model_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    expected = gradsentry.scan(folder, model_dir, out, streaming=True, **OPTIONS)
    (out / "scores" / "part-00001.parquet").unlink()
    again = gradsentry.scan(folder, model_dir, out, streaming=True, **OPTIONS)
    assert again.decision.verdicts.equals(expected.decision.verdicts)
    assert gradsentry.redecide(out, "1").flagged == []
    assert pq.read_table(out / "kept.parquet").to_pylist() == ROWS
    with (folder / "part-1.jsonl").open("a") as file:
        file.write(json.dumps(ROWS[0]) + "\n")
    with pytest.raises(RunError, match="has changed since it was scored"):
        gradsentry.redecide(out, "1")
