"""The content of ``report.json``, which is also what ``--json`` prints and what the page shows."""

from __future__ import annotations

from collections.abc import Sequence
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

pc: Any = pyarrow.compute  # its functions are made when it is imported, where no type checker sees them

SCHEMA_VERSION = 1
LISTED = 1000
"""Rows of each kind that the report lists; ``verdicts.parquet`` has all of them."""
EXAMPLES = 3
"""Rows shown of each finding."""
PREVIEW = 600
"""Characters of a prompt or completion that the report shows."""


def example_rows(decision: Decision, source: Source, shards: Sequence[Shard], config: ScanConfig) -> dict[int, dict[str, str]]:
    """Place, prompt and completion of the rows that the report lists, read again from the data.

    Only the shards that hold such a row are read.
    """
    wanted = set(flagged_rows(decision)) | set(unscored_rows(decision)) | {row for f in decision.findings for row in finding_rows(f)}
    found: dict[int, dict[str, str]] = {}
    for shard in shards:
        if wanted.isdisjoint(range(shard.start, shard.stop)):
            continue
        for record in source.read(shard):
            if record.row in wanted:
                found[record.row] = _preview(record, config)
    return found


def flagged_rows(decision: Decision) -> list[int]:
    """The flagged rows of highest entropy, highest first."""
    rows = decision.flagged.nonzero()[0]
    highest = np.argsort(-decision.verdicts["entropy"].to_numpy()[rows], kind="stable")[:LISTED]
    return rows[highest].tolist()


def finding_rows(finding: Finding) -> list[int]:
    """Rows that stand for a finding: the first, one in the middle, the last."""
    rows = finding.rows
    return sorted({int(rows[i]) for i in np.linspace(0, len(rows) - 1, EXAMPLES).astype(int)})


def unscored_rows(decision: Decision) -> list[int]:
    """The first rows that could not be scored."""
    return pc.indices_nonzero(pc.not_equal(decision.verdicts["status"], "scored"))[:LISTED].to_pylist()


def _preview(record: Record, config: ScanConfig) -> dict[str, str]:
    """What a person needs to recognise the row."""
    if record.value is None:
        return {"place": record.place, "prompt": "", "completion": ""}
    try:
        prompt, completion = _sides(to_sample(record.value, FORMATS[config.format or "text"], parse_mapping(config.map)))
    except RowProblem:
        prompt, completion = "", _raw(record.value)
    return {"place": record.place, "prompt": visible(prompt, PREVIEW), "completion": visible(completion, PREVIEW)}


def _raw(row: Row) -> str:
    return ", ".join(f"{name}: {value!r}"[:PREVIEW] for name, value in row.items())


def _sides(sample: Sample) -> tuple[str, str]:
    """Prompt and completion as text."""
    if isinstance(sample, TextSample):
        return sample.prompt, sample.completion
    if isinstance(sample, ChatSample):
        return _turns(sample.prompt), _turns(sample.completion)
    supervised = [label for label in sample.labels if label != -100]
    return f"{len(sample.input_ids) - len(supervised)} token ids", " ".join(map(str, supervised))


def _turns(turns: Sequence[Row]) -> str:
    return "\n".join(f"{turn['role']}: {turn['content']}{_calls(turn)}" for turn in turns)


def _calls(turn: Row) -> str:
    """What a turn calls, which may be all that it says."""
    calls = turn.get("tool_calls") or turn.get("function_call")
    return f" {calls}" if calls else ""


def report_document(decision: Decision, manifest: dict[str, Any], examples: dict[int, dict[str, str]]) -> dict[str, Any]:
    """The machine-readable result of a run.

    Args:
        examples: place, prompt and completion by row, from `example_rows`.
    """
    threshold = decision.threshold
    wanted = np.array(list(examples), dtype=np.int64)
    told = {verdict["row"]: verdict for verdict in decision.verdicts.take(wanted).to_pylist()}
    for line in decision.evidence.take(wanted).to_pylist():
        told[line["row"]] |= {"beyond_length": line["beyond_length"]}
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "gradsentry", "version": __version__},
        "run": {
            "data": manifest["data"]["name"],
            "model": manifest["model"]["name"],
            "revision": manifest["model"]["revision"],
            "dtype": manifest["model"]["dtype"],
            "policy": manifest["config"]["policy"],
            "by_entropy": decision.by_entropy,
            "crop": manifest["config"]["crop"],
            "format": manifest["config"]["format"],
            "started": manifest["started"],
            "seconds": manifest.get("seconds"),
        },
        "threshold": None
        if threshold is None
        else {
            "value": threshold.value,
            "method": threshold.method,
            "reliable": threshold.reliable,
            "problems": list(threshold.problems),
        },
        "above_threshold": decision.above,
        "counts": decision.counts,
        "findings": [_finding(number, finding, examples) for number, finding in enumerate(decision.findings, start=1)],
        "flagged": [_entry(told[row], examples[row]) for row in flagged_rows(decision) if row in examples],
        "unscored": [_entry(told[row], examples[row]) for row in unscored_rows(decision) if row in examples],
        "listed_at_most": LISTED,
    }


def _finding(number: int, finding: Finding, examples: dict[int, dict[str, str]]) -> dict[str, Any]:
    return {
        "number": number,
        "kind": finding.kind,
        "sentence": visible(finding.sentence),
        "payload": visible(finding.payload, PREVIEW),
        "variants": finding.variants,
        "triggers": [visible(trigger, PREVIEW) for trigger in finding.triggers],
        "rows": len(finding.rows),
        "p": finding.p,
        "surprise": round(finding.surprise, 2),
        "trigger_surprise": round(finding.trigger_surprise, 2),
        "p_trigger_given_payload": round(finding.inside / finding.holders, 4),
        "p_payload_given_trigger": round(finding.inside / finding.everywhere, 4),
        "examples": [{"row": row} | examples[row] for row in finding_rows(finding) if row in examples],
    }


def _entry(verdict: dict[str, Any], example: dict[str, str]) -> dict[str, Any]:
    return {name: verdict.get(name) for name in ("row", "status", "entropy", "beyond_length", "n_tokens", "loss", "reason")} | example
