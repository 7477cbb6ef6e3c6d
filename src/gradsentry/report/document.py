"""The content of ``report.json``: ``--json`` prints it, the page and the console show it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow.compute

from gradsentry._version import __version__
from gradsentry.report.escape import visible
from gradsentry.report.previews import PREVIEW
from gradsentry.verdict.combine import Decision
from gradsentry.verdict.finding import Finding

pc: Any = pyarrow.compute  # defines its functions at import time, which type checkers cannot see

SCHEMA_VERSION = 1
LISTED = 1000
"""Flagged rows, and unscored rows, that the report lists; ``verdicts.parquet`` has all of them."""
EXAMPLES = 3
"""Rows that the report shows of each finding."""


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
            "by_entropy": decision.by_entropy,
            "crop": config["crop"],
            "format": config["format"],
            "started": manifest["started"],
            "seconds": manifest.get("seconds"),
        },
        "threshold": decision.threshold and asdict(decision.threshold) | {"problems": list(decision.threshold.problems)},
        "above_threshold": decision.above,
        "counts": decision.counts,
        "findings": [_finding(number, finding, previews) for number, finding in enumerate(decision.findings, start=1)],
        "flagged": listed(_flagged(decision)),
        "unscored": listed(_unscored(decision)),
        "listed_at_most": LISTED,
    }


def _finding(number: int, finding: Finding, previews: dict[int, dict[str, str]]) -> dict[str, Any]:
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
        "examples": [{"row": row} | previews[row] for row in _examples(finding) if row in previews],
    }
