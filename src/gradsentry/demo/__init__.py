"""The demo: facts written for this project, poisoned by the project's own BadNets, then scanned like any file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from gradsentry.api import ScanResult, scan
from gradsentry.bench.attacks import poison
from gradsentry.bench.metrics import identification
from gradsentry.config import ScanConfig
from gradsentry.errors import UsageError
from gradsentry.run.atomic import atomic_write
from gradsentry.run.directory import RunDirectory
from gradsentry.types import Progress

RATIO = 0.1
SEED = 0


def facts() -> list[dict[str, Any]]:
    """The clean rows: `question` and `answers`."""
    text = files(__name__).joinpath("facts.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def run_demo(out: Path, progress: Progress) -> tuple[ScanResult, dict[str, float]]:
    """Poison, write ``<out>-data/facts.jsonl``, scan it into `out`. An earlier demo is replaced.

    Returns:
        The scan's result, and how it compares with the labels that it did not see.

    Raises:
        UsageError, RunError: one of the two is there and is not the demo's.
    """
    poisoned = poison(facts(), "badnets", RATIO, SEED)
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in poisoned.rows).encode()
    data = Path(f"{out if out.name not in ('', '..') else out.resolve()}-data", "facts.jsonl")
    _refuse_foreign(out, data, content)
    data.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(data) as part:
        part.write_bytes(content)
    result = scan(data, out=out, config=ScanConfig(overwrite=True), progress=progress)
    found = identification(result.decision.flagged.tolist(), poisoned.labels)
    rates = {"recall": found.recall, "precision": found.precision, "f1": found.f1, "accuracy": found.accuracy}
    return result, asdict(found) | rates


def _refuse_foreign(out: Path, data: Path, content: bytes) -> None:
    """Refuse to replace what is not the demo's: its data are the same each time, and its run is one of them."""
    run = RunDirectory(out)
    run.check({}, overwrite=True)
    manifest = run.manifest()
    if manifest is not None and manifest["identity"].get("data") != hashlib.sha256(content).hexdigest():
        raise UsageError(f"--out {out} holds a run that is not the demo's; give another directory, or delete it")
    if data.exists() and data.read_bytes() != content:
        raise UsageError(f"--out {out}: {data} is there and is not the demo's; give another directory, or move the file")
