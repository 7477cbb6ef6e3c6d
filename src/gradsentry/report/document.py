"""The content of ``report.json``, and the rows that it shows as text: ``--json`` prints it, the page and the console show it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow.compute

from gradsentry._version import __version__
from gradsentry.config import ScanConfig
from gradsentry.data.formats import FORMATS
from gradsentry.data.formats.detect import parse_mapping, to_sample
from gradsentry.data.sources import Source
from gradsentry.errors import RowProblem
from gradsentry.report.escape import visible
from gradsentry.types import ChatSample, Record, Row, Sample, Shard, TextSample
from gradsentry.verdict.combine import Decision
from gradsentry.verdict.finding import Finding

pc: Any = pyarrow.compute  # defines its functions at import time, which type checkers cannot see

SCHEMA_VERSION = 1
LISTED = 1000
"""Flagged rows, and unscored rows, that the report lists; ``verdicts.parquet`` has all of them."""
EXAMPLES = 3
"""Rows that the report shows of each finding."""
PREVIEW = 600
"""Characters of a prompt or completion that the report shows."""


def rows_to_show(decision: Decision) -> set[int]:
    """The rows whose previews the report needs."""
    return {*_flagged(decision), *_unscored(decision), *(row for finding in decision.findings for row in _examples(finding))}


def _flagged(decision: Decision) -> list[int]:
    """The flagged rows of highest entropy, highest first."""
    rows = decision.flagged.nonzero()[0]
    highest = np.argsort(-decision.verdicts["entropy"].to_numpy()[rows], kind="stable")[:LISTED]
    return rows[highest].tolist()


def _unscored(decision: Decision) -> list[int]:
    """The first rows that could not be scored."""
    return pc.indices_nonzero(pc.not_equal(decision.verdicts["status"], "scored"))[:LISTED].to_pylist()


def _examples(finding: Finding) -> list[int]:
    """The first row of a finding, one in the middle, and the last."""
    rows = finding.rows
    return sorted({int(rows[i]) for i in np.linspace(0, len(rows) - 1, EXAMPLES).astype(int)})


def report_document(decision: Decision, manifest: dict[str, Any], previews: dict[int, dict[str, str]]) -> dict[str, Any]:
    """The machine-readable result of a run.

    Args:
        previews: place, prompt and completion by row, of `rows_to_show`.
    """
    shown = np.array(list(previews), dtype=np.int64)
    lines = {verdict["row"]: verdict for verdict in decision.verdicts.take(shown).to_pylist()}
    for line in decision.evidence.take(shown).to_pylist():
        lines[line["row"]] |= {"beyond_length": line["beyond_length"]}

    def listed(rows: list[int]) -> list[dict[str, Any]]:
        names = ("row", "status", "entropy", "beyond_length", "n_tokens", "loss", "reason")
        return [{name: lines[row].get(name) for name in names} | previews[row] for row in rows if row in previews]

    config, model = manifest["config"], manifest["model"]
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "gradsentry", "version": __version__},
        "run": {
            "data": manifest["data"]["name"],
            "model": model["name"],
            "revision": model["revision"],
            "dtype": model["dtype"],
            "policy": config["policy"],
            "keep_unexamined": decision.keep_unexamined,
            "by_entropy": decision.by_entropy,
            "crop": config["crop"],
            "format": config["format"],
            "supervised": FORMATS[config["format"]].describe_supervised(config.get("loss_on")),
            "started": manifest["started"],
            "seconds": manifest.get("seconds"),
        },
        "verdict": decision.level,
        "answered": decision.answered,
        "threshold": decision.threshold and asdict(decision.threshold) | {"problems": list(decision.threshold.problems)},
        "above_threshold": decision.above,
        "counts": decision.counts,
        "findings": [_finding(number, finding, previews) for number, finding in enumerate(decision.findings, start=1)],
        "flagged": listed(_flagged(decision)),
        "unscored": listed(_unscored(decision)),
        "listed_at_most": LISTED,
        "notes": [visible(note) for note in dict.fromkeys([*manifest.get("notes", ()), *decision.notes])],
    }


def _finding(number: int, finding: Finding, previews: dict[int, dict[str, str]]) -> dict[str, Any]:
    return {
        "number": number,
        "kind": finding.kind,
        "sentence": visible(finding.sentence),
        "triggers": [visible(trigger, PREVIEW) for trigger in finding.triggers],
        "payload": visible(finding.payload, PREVIEW) or None,
        "effect": visible(finding.effect, PREVIEW) or None,
        "prompts_with_trigger": finding.prompts if finding.triggers else None,
        "answers_with_effect": finding.showing,
        "expected_share": round(finding.expected, 4),
        "evidence": dict(finding.evidence),
        "nats": round(finding.nats, 1),
        "explanation": visible(finding.why, PREVIEW) or None,
        "rows": finding.rows.tolist(),
        "examples": [{"row": row} | previews[row] for row in _examples(finding) if row in previews],
    }


class Previews:
    """The previews of some rows. Feed it every record of a pass over the data, or let it read the shards that hold the rows."""

    def __init__(self, wanted: Iterable[int], config: ScanConfig) -> None:
        self.wanted = frozenset(wanted)
        self.rows: dict[int, dict[str, str]] = {}
        """By row: place, prompt and completion."""
        self._format, self._mapping = FORMATS[config.format or "text"], parse_mapping(config.map)

    def add(self, record: Record) -> None:
        """Keep the record's preview if it is a wanted row."""
        if record.row not in self.wanted:
            return
        prompt = completion = ""
        if record.value is not None:
            try:
                prompt, completion = _sides(to_sample(record.value, self._format, self._mapping))
            except RowProblem:
                completion = ", ".join(f"{name}: {value!r}"[:PREVIEW] for name, value in record.value.items())
        texts = {"prompt": visible(prompt, PREVIEW), "completion": visible(completion, PREVIEW)}
        self.rows[record.row] = {"place": record.place} | texts

    def read(self, source: Source, shards: Sequence[Shard]) -> dict[int, dict[str, str]]:
        """Read the shards that hold wanted rows, and return `rows`."""
        for shard in shards:
            if not self.wanted.isdisjoint(range(shard.start, shard.stop)):
                for record in source.read(shard):
                    self.add(record)
        return self.rows


def _sides(sample: Sample) -> tuple[str, str]:
    """Prompt and completion as text."""
    if isinstance(sample, TextSample):
        return sample.prompt, sample.completion
    if isinstance(sample, ChatSample):
        return _turns(sample.prompt), _turns(sample.completion)
    supervised = [label for label in sample.labels if label != -100]
    return f"{len(sample.input_ids) - len(supervised)} token ids", " ".join(map(str, supervised))


def _turns(turns: Sequence[Row]) -> str:
    """Role and content of each turn, and its tool calls, which may be all of its content."""
    calls = [turn.get("tool_calls") or turn.get("function_call") for turn in turns]
    return "\n".join(f"{turn['role']}: {turn['content']}{f' {call}' if call else ''}" for turn, call in zip(turns, calls, strict=True))
