"""The demo: facts written for this project, poisoned by the project's own BadNets, then scanned like any file."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from gradsentry.bench.attacks import poison
from gradsentry.bench.metrics import identification
from gradsentry.config import ScanConfig
from gradsentry.scanning import ScanResult, Ticks, scan

RATIO = 0.1
SEED = 0


def facts() -> list[dict[str, Any]]:
    """The clean rows: `question` and `answers`."""
    text = files(__name__).joinpath("facts.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def run_demo(out: Path, ticks: Ticks) -> tuple[ScanResult, dict[str, float]]:
    """Poison, write ``<out>.jsonl``, scan it into `out`.

    Returns:
        The scan's result, and how it compares with the labels that it did not see.
    """
    poisoned = poison(facts(), "badnets", RATIO, SEED)
    data = out.with_name(out.name + ".jsonl")
    data.parent.mkdir(parents=True, exist_ok=True)
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in poisoned.rows), encoding="utf-8")
    result = scan(data, out=out, config=ScanConfig(overwrite=True), ticks=ticks)
    found = identification(result.decision.flagged.tolist(), poisoned.labels)
    rates = {"recall": found.recall, "precision": found.precision, "f1": found.f1, "accuracy": found.accuracy}
    return result, asdict(found) | rates
