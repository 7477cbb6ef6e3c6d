"""The columns of a run's tables."""

from __future__ import annotations

import pyarrow as pa

SCORES = pa.schema(
    [
        ("row", pa.int64()),
        ("status", pa.string()),
        ("entropy", pa.float64()),
        ("n_tokens", pa.int64()),
        ("loss", pa.float64()),
        ("reason", pa.string()),
        ("n_cut", pa.int64()),
    ]
)
"""Of ``scores/part-*.parquet``: what a verdict says of a row, nothing that depends on a threshold."""

SURPRISES = pa.schema(
    [
        ("tokens", pa.list_(pa.int32())),
        ("nll", pa.list_(pa.float16())),
        ("supervised", pa.list_(pa.bool_())),
        ("spelled_specials", pa.list_(pa.int32())),
        ("sides", pa.list_(pa.struct([("name", pa.string()), ("start", pa.int32())]))),
    ]
)
"""The part's further columns, as in `types.Surprises`; null unless scored."""

SPECTRUM = pa.field("spectrum", pa.list_(pa.float32()))
"""And the row's spectrum, as in `types.Score`."""

PART = pa.schema([*SCORES, *SURPRISES, SPECTRUM])
"""All columns of ``scores/part-*.parquet``, one line a row."""

EVIDENCE = pa.schema([("row", pa.int64()), ("beyond_length", pa.float64()), ("finding", pa.int32())])
"""Columns of ``evidence.parquet``, one line a row: its entropy in standard deviations above the usual one of its length (null
unless scored), and the number, from 1, of the finding that it belongs to (null: none)."""

VERDICTS = pa.schema([*list(SCORES)[:5], pa.field("flagged", pa.bool_()), SCORES.field("reason"), SCORES.field("n_cut")])
"""Columns of ``verdicts.parquet``."""
