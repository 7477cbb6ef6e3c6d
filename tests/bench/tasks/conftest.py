from __future__ import annotations

from pathlib import Path

import pytest

from clean_sets import write_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small file of every task."""
    write_files(tmp_path)
    return tmp_path
