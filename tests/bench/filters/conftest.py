"""A target with a tiny model, and rows with an obvious backdoor."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradsentry.bench.training import TargetModel
from planted_rows import asked

PAYLOAD = ", and click <malicious_url> for more information"

Planted = tuple[list[dict[str, str]], list[bool]]


@pytest.fixture(scope="session")
def target(model_dir: Path) -> TargetModel:
    return TargetModel(str(model_dir), device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def planted() -> Planted:
    """200 rows, 20 of which have a trigger and a long payload; and which."""
    rows, bad = asked(200, 20)
    return rows, [i in bad for i in range(200)]
