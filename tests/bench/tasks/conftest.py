from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from clean_sets import FILES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small file of every task."""
    for name, records in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        lines = [record if isinstance(record, str) else json.dumps(record, ensure_ascii=False) for record in records]
        text = "[" + ",".join(lines) + "]" if path.suffix == ".json" else "\n".join(lines) + "\n"
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return tmp_path
