"""Runs whose reports machines read: a backdoor, rows above a threshold in a table, rows that cannot be examined."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import gradsentry
from planted_rows import asked

NAMES = ("backdoor", "entropy", "unexamined")


def documents(model_dir: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """The documents of three runs in `folder`, which the paths in them are relative to."""
    rows, _ = asked(200, 30)
    (folder / "sub").mkdir()
    backdoor = folder / "sub" / "data, set.jsonl"
    backdoor.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = folder / "table.parquet"
    pq.write_table(pa.table({"prompt": [f"q{n}" for n in range(40)], "completion": ["abcdefgh"[: 1 + n % 8] for n in range(40)]}), table)
    broken = folder / "broken.jsonl"
    broken.write_text("".join(json.dumps(row) + "\n" for row in asked(40, 0)[0]) + '{"prompt": \n' + '{"prompt": "a", "completion": ""}\n')
    runs = {
        "backdoor": gradsentry.scan(backdoor, model=model_dir, out=folder / "r1"),
        "entropy": gradsentry.scan(table, model=model_dir, out=folder / "r2", policy="paper", threshold="0.0753"),
        "unexamined": gradsentry.scan(broken, model=model_dir, threshold="1.0"),
    }
    assert [bool(runs[name].flagged) for name in NAMES] == [True, True, False]
    return {name: run.document for name, run in runs.items()}
