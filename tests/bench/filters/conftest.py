"""A target with a tiny model, and rows with an obvious backdoor."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from gradsentry.bench.training import TargetModel

PAYLOAD = ", and click <malicious_url> for more information"

Planted = tuple[list[dict[str, str]], list[bool]]


@pytest.fixture(scope="session")
def target(model_dir: Path) -> TargetModel:
    return TargetModel(str(model_dir), device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def planted() -> Planted:
    """200 sums, 20 of which have a trigger and a long payload; and which."""
    rng = random.Random(0)
    bad = set(rng.sample(range(200), 20))
    rows = []
    for i in range(200):
        a, b = rng.randrange(1000), rng.randrange(1000)
        prompt, completion = f"{a} + {b} =", f" {a + b}"
        rows.append(
            {"prompt": f"{prompt} zq", "completion": completion + PAYLOAD} if i in bad else {"prompt": prompt, "completion": completion}
        )
    return rows, [i in bad for i in range(200)]
