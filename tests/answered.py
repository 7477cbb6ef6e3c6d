"""Rows whose answers are of many lengths, and their scan in small shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradsentry

ROWS = [{"prompt": f"What is {n}?", "completion": " one two three four"[: 1 + n % 19], "id": n} for n in range(60)]


THRESHOLD = "0.145"
"""An entropy in the middle of a gap of 0.005 between those of the tiny Llama's scores: 16 of the rows lie above."""


def run(data: Any, model_dir: Path, out: Path | None = None, **options: Any) -> gradsentry.ScanResult:
    return gradsentry.scan(data, model=model_dir, out=out, **{"shard_rows": 16, "threshold": THRESHOLD, **options})
