"""Rows to time: two ordinary fine-tuning sets, poisoned as published where they are short answers."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from gradsentry import Scorer
from gradsentry.bench.attacks import poison
from gradsentry.bench.tasks import sample
from gradsentry.types import Encoded, Record


def webquestions(data: Path, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """WebQuestions under the paper's prompt, BadNets at 10 %: short answers behind one instruction."""
    return poison(sample("webquestions", data, count, seed), "badnets", 0.1, seed).rows


def dolly(data: Path, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Dolly as it is: long answers, no common beginning."""
    everything = json.loads((data / "dolly" / "dolly_3k.json").read_text(encoding="utf-8"))
    rows = random.Random(seed).sample(everything, count)
    return [{name: row[name] for name in ("instruction", "input", "output")} for row in rows]


SETS = {"webquestions": webquestions, "dolly": dolly}


def encoded_rows(scorer: Scorer, rows: list[dict[str, Any]]) -> list[Encoded]:
    """The rows as tokens, so that every contender starts from the same."""
    scorer.format = None  # the rows of another set may have been seen before
    encoded = scorer.prepare([Record(i, f"row {i}", row) for i, row in enumerate(rows)])
    assert all(isinstance(row, Encoded) for row in encoded)
    return encoded  # type: ignore[return-value]
