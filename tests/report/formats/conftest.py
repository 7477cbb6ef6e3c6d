from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from machine_runs import documents


@pytest.fixture(scope="session")
def made(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    """A folder, and the documents of three runs of data in it."""
    folder = tmp_path_factory.mktemp("machines")
    return folder, documents(model_dir, folder)
