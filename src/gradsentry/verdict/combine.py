"""Scores, findings and a threshold -> verdicts. Pure: tables in, a table out; no model, no files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from gradsentry.schema import EVIDENCE, VERDICTS
from gradsentry.types import Threshold
from gradsentry.verdict.entropy import Values, choose
from gradsentry.verdict.evidence.finding import Finding
from gradsentry.verdict.length import beyond_length

pc: Any = pyarrow.compute  # its functions are made when it is imported, where no type checker sees them


@dataclass(frozen=True)
class Decision:
    """What is said of every row, and by which rule."""

    threshold: Threshold | None
    """Of the entropy; None when no row could be scored."""
    verdicts: pa.Table
    """One line a row, in input order, columns as in `columns.VERDICTS`."""
    evidence: pa.Table
    """One line a row, columns as in `columns.EVIDENCE`."""
    by_entropy: bool
    """Whether rows above the threshold are flagged."""
    findings: tuple[Finding, ...] = ()
    """What the evidence policy found, strongest first; those that only look like a backdoor come last."""
    above: int = 0
    """Rows above the threshold, flagged or not."""

    @property
    def flagged(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """[N] bool, True for the rows to take out."""
        return self.verdicts["flagged"].to_numpy()

    @property
    def counts(self) -> dict[str, int]:
        """Rows in all, by status, flagged and kept."""
        statuses = {entry["values"]: entry["counts"] for entry in pc.value_counts(self.verdicts["status"]).to_pylist()}
        total, flagged = self.verdicts.num_rows, int(self.flagged.sum())
        by_status = {name: statuses.get(name, 0) for name in ("scored", "unscorable", "error")}
        return {"rows": total, **by_status, "flagged": flagged, "kept": total - flagged}


def scored_entropies(scores: pa.Table) -> Values:
    """[N] entropies of the rows that have one."""
    return scores.filter(pc.equal(scores["status"], "scored"))["entropy"].to_numpy()


def decide(scores: pa.Table, threshold: str, findings: Sequence[Finding] = (), by_entropy: bool = True) -> Decision:
    """Flag the rows of findings, and the scored rows whose entropy is above the threshold.

    Args:
        scores: columns of `columns.SCORES`. threshold: as `--threshold` takes it. findings: from `evidence.examine`.
        by_entropy: False: the entropy alone flags nothing.

    Raises:
        UsageError: a threshold that cannot be.
    """
    entropies = scored_entropies(scores)
    if len(entropies) == 0:
        return Decision(None, _verdicts(scores, np.zeros(scores.num_rows, dtype=bool), {}), _evidence(scores, ()), by_entropy)
    chosen = choose(threshold, entropies)
    above = pc.fill_null(pc.greater(scores["entropy"], chosen.value), False).to_numpy(zero_copy_only=False)
    flagged = above & by_entropy
    backdoors = [finding for finding in findings if finding.kind == "backdoor"]
    told: dict[int, str] = {}
    # What is written last stays: why a row is flagged before what it only looks like, and the strongest finding before all.
    for finding in reversed(findings):
        told |= dict.fromkeys(finding.rows.tolist(), finding.reason)
    told |= dict.fromkeys(np.flatnonzero(flagged).tolist(), f"entropy above the threshold {chosen.value:.4f}")
    for finding in reversed(backdoors):
        told |= dict.fromkeys(finding.rows.tolist(), finding.reason)
        flagged[finding.rows] = True
    verdicts, evidence = _verdicts(scores, flagged, told), _evidence(scores, findings)
    return Decision(chosen, verdicts, evidence, by_entropy, tuple(findings), int(above.sum()))


def _evidence(scores: pa.Table, findings: Sequence[Finding]) -> pa.Table:
    scored = pc.equal(scores["status"], "scored").to_numpy(zero_copy_only=False)
    beyond, number = np.full(len(scored), np.nan), np.zeros(len(scored), dtype=np.int32)
    some = scores.filter(scored)
    beyond[scored] = beyond_length(some["entropy"].to_numpy(), some["n_tokens"].to_numpy())
    for i in range(len(findings), 0, -1):  # a row of two belongs to the stronger
        number[findings[i - 1].rows] = i
    columns = [scores["row"], pa.array(beyond, mask=~scored), pa.array(number, mask=number == 0)]
    return pa.table(columns, schema=EVIDENCE)


def _verdicts(scores: pa.Table, flagged: np.ndarray[Any, np.dtype[np.bool_]], told: dict[int, str]) -> pa.Table:
    """The scores with the verdict and its reason, put before what was said of the row already."""
    reasons = scores["reason"].to_pylist()
    for row, reason in told.items():
        reasons[row] = f"{reason}; {reasons[row]}" if reasons[row] else reason
    table = scores.set_column(scores.schema.get_field_index("reason"), "reason", pa.array(reasons, pa.string()))
    return table.append_column("flagged", pa.array(flagged)).select(VERDICTS.names).cast(VERDICTS)
