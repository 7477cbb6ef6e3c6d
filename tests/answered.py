"""Rows whose answers are of many lengths, and their scan in small shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradsentry

ROWS = [{"prompt": f"What is {n}?", "completion": " one two three four"[: 1 + n % 19], "id": n} for n in range(60)]


def run(data: Any, model_dir: Path, out: Path | None = None, **options: Any) -> gradsentry.ScanResult:
    return gradsentry.scan(data, model=model_dir, out=out, **{"shard_rows": 16, "threshold": "quantile:0.8", **options})
