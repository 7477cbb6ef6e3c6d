"""Are two runs of the same data the same? Compares verdicts, entropies, surprises and findings.

    python benchmarks/compare_runs.py BEFORE AFTER [--tolerance 1e-6]

BEFORE and AFTER are run directories, also of two versions. Exit code 1 if anything differs. The tolerance is for models with scaled or
soft-capped logits, whose code may be run in another way.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

RENAMED = {"surprise": "nll", "own": "spelled_specials"}
"""Columns of parts before version 0.2, and their names since."""


def parts(run: Path) -> pa.Table:
    """The scores of a run, under today's names."""
    table = pa.concat_tables([pq.read_table(path) for path in sorted(run.glob("scores/part-*.parquet"))])
    return table.rename_columns([RENAMED.get(name, name) for name in table.column_names])


def differences(before: Any, after: Any, tolerance: float, place: str = "") -> list[str]:
    """Where two values of JSON's kind differ; numbers may differ by the tolerance."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            found for key in before.keys() & after.keys() for found in differences(before[key], after[key], tolerance, f"{place}.{key}")
        ]
    if isinstance(before, (list, tuple)) and isinstance(after, (list, tuple)) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [found for i, (one, other) in pairs for found in differences(one, other, tolerance, f"{place}[{i}]")]
    if isinstance(before, float) and isinstance(after, float):
        same = bool(np.isclose(before, after, rtol=0, atol=tolerance, equal_nan=True))
    else:
        same = before == after
    return [] if same else [f"{place}: {before!r}, now {after!r}"]


def compare(before: Path, after: Path, tolerance: float) -> list[str]:
    """All differences, one line each. Columns that only one of the runs has are not compared."""
    found = []
    tables = {"parts": (parts(before), parts(after))}
    for name in ("verdicts", "evidence"):
        tables[name] = (pq.read_table(before / f"{name}.parquet"), pq.read_table(after / f"{name}.parquet"))
    for name, (old, new) in tables.items():
        for column in [column for column in old.column_names if column in new.column_names]:
            found += differences(old[column].to_pylist(), new[column].to_pylist(), tolerance, f"{name}.{column}")
    documents = [json.loads((run / "report.json").read_text(encoding="utf-8")) for run in (before, after)]
    for key in ("findings", "counts", "threshold", "flagged"):
        found += differences(documents[0][key], documents[1][key], tolerance, key)
    for name in ("kept", "flagged", "unexamined"):
        for path in before.glob(f"{name}.*"):
            if path.is_file() and path.read_bytes() != (after / path.name).read_bytes():
                found.append(f"{path.name} has other bytes")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--tolerance", type=float, default=0.0)
    arguments = parser.parse_args()
    found = compare(arguments.before, arguments.after, arguments.tolerance)
    rows = pq.read_metadata(arguments.after / "verdicts.parquet").num_rows
    print(f"{rows} rows: {len(found)} differences")
    print("\n".join(found[:20]))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
