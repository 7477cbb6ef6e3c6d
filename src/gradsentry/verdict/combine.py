"""Scores, findings and a threshold -> verdicts. Tables in, a table out: no model, no files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from gradsentry.data.formats.detect import other_format
from gradsentry.schema import EVIDENCE, VERDICTS
from gradsentry.tokens.chat import LEFT_OUT
from gradsentry.types import Level, Threshold
from gradsentry.verdict.entropy import Values, beyond_length, choose
from gradsentry.verdict.finding import Finding

pc: Any = pyarrow.compute  # defines its functions at import time, which type checkers cannot see


@dataclass(frozen=True)
class Decision:
    """The verdict of every row, and the rule behind it."""

    threshold: Threshold | None
    """Of the entropy; None if no row was scored."""
    verdicts: pa.Table
    """[N] rows in input order, columns of `schema.VERDICTS`."""
    evidence: pa.Table
    """[N] rows in input order, columns of `schema.EVIDENCE`."""
    by_entropy: bool
    """Whether rows above the threshold are flagged."""
    findings: tuple[Finding, ...] = ()
    """Of the detectors, strongest first; those that flag no rows come last."""
    above: int = 0
    """Number of rows above the threshold, flagged or not."""
    notes: tuple[str, ...] = ()
    """What limits the verdict, a sentence each: what could not be looked for, and which rows were not seen whole."""
    answered: bool = True
    """Whether a rule could look at the scored rows. False where no trigger could be looked for, nor the threshold be relied upon."""
    keep_unexamined: bool = False
    """Whether the rows that were not examined are among the kept ones."""

    @property
    def flagged(self) -> NDArray[np.bool_]:
        """[N] True for the rows to remove."""
        return self.verdicts["flagged"].to_numpy()

    @property
    def unexamined(self) -> NDArray[np.bool_]:
        """[N] True for the rows that were not scored, of which no rule knows anything. None of them is flagged."""
        return pc.not_equal(self.verdicts["status"], "scored").to_numpy()

    @property
    def kept(self) -> NDArray[np.bool_]:
        """[N] True for the rows to train on."""
        return ~self.flagged if self.keep_unexamined else ~(self.flagged | self.unexamined)

    @property
    def suspected(self) -> NDArray[np.bool_]:
        """[N] True for the rows of suspects that are not flagged. They are kept, for a person to look at."""
        rows = np.zeros(self.verdicts.num_rows, dtype=bool)
        for finding in self.findings:
            if finding.kind == "suspect":
                rows[finding.rows] = True
        return rows & ~self.flagged

    @property
    def level(self) -> Level:
        """The verdict in a word."""
        if self.flagged.any():
            return "poisoned"
        looked = self.answered and not self.unexamined.any()
        return "nothing found" if looked and all(finding.kind != "suspect" for finding in self.findings) else "look"

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows: in all, by status, and by what becomes of them; the suspected ones are kept."""
        statuses = {entry["values"]: entry["counts"] for entry in pc.value_counts(self.verdicts["status"]).to_pylist()}
        by_status = {name: statuses.get(name, 0) for name in ("scored", "unscorable", "error")}
        by_part = {name: int(getattr(self, name).sum()) for name in ("flagged", "suspected", "unexamined", "kept")}
        return {"rows": self.verdicts.num_rows, **by_status, **by_part}


def scored_entropies(scores: pa.Table) -> Values:
    """The entropies of the scored rows, in their order."""
    return scores.filter(pc.equal(scores["status"], "scored"))["entropy"].to_numpy()


def combine(
    scores: pa.Table,
    threshold: str,
    findings: Sequence[Finding] = (),
    by_entropy: bool = True,
    notes: Sequence[str] = (),
    answered: bool = True,
) -> Decision:
    """Flag the rows of backdoors, and, if `by_entropy`, the scored rows with an entropy above the threshold.

    Without another answer a reliable published threshold is one: the rows above it are suspects, if they are not flagged.

    Args:
        scores: [N] rows, columns of `schema.SCORES`. threshold: as `--threshold` takes it. findings: strongest first.
        notes: of the detectors, on what they could not look for. answered: whether there is an answer without the published threshold.

    Raises:
        UsageError: an impossible threshold.
    """
    entropies = scored_entropies(scores)
    if len(entropies) == 0:
        nothing = np.zeros(scores.num_rows, dtype=bool)
        return Decision(None, _verdicts(scores, nothing, {}), _evidence(scores, ()), by_entropy, notes=(*notes, *_notes_on_rows(scores)))
    chosen = choose(threshold, entropies)
    above = pc.fill_null(pc.greater(scores["entropy"], chosen.value), False).to_numpy(zero_copy_only=False)
    flagged = above & by_entropy
    if not answered and chosen.reliable and not by_entropy:
        findings = [
            *(f for f in findings if f.kind != "explained"),
            _suspect(above, chosen),
            *(f for f in findings if f.kind == "explained"),
        ]
    answered = answered or chosen.reliable
    backdoors = [finding for finding in findings if finding.kind == "backdoor"]
    reasons: dict[int, str] = {}
    # Later assignments win: the reason for the flag replaces that of a lookalike, and the strongest backdoor replaces all others.
    for finding in reversed(findings):
        reasons |= dict.fromkeys(finding.rows.tolist(), finding.reason)
    reasons |= dict.fromkeys(np.flatnonzero(flagged).tolist(), f"entropy above the threshold {chosen.value:.4f}")
    for finding in reversed(backdoors):
        reasons |= dict.fromkeys(finding.rows.tolist(), finding.reason)
        flagged[finding.rows] = True
    verdicts, evidence = _verdicts(scores, flagged, reasons), _evidence(scores, findings)
    notes = [*notes, *_notes_on_rows(scores), *_notes_on_threshold(chosen, by_entropy, answered)]
    return Decision(chosen, verdicts, evidence, by_entropy, tuple(findings), int(above.sum()), tuple(notes), answered)


def _suspect(above: NDArray[np.bool_], threshold: Threshold) -> Finding:
    """The rows above a reliable threshold where no trigger could be looked for."""
    rows, effect = np.flatnonzero(above), f"have an entropy above the published threshold {threshold.value:.4f}, which is reliable here"
    return Finding("suspect", (), "", rows, effect, len(rows), len(rows), 0.0)


def _notes_on_rows(scores: pa.Table) -> tuple[str, ...]:
    """How many rows are cut, and may have lost their trigger or payload, and how many are in another format."""
    notes = []
    if cut := pc.sum(pc.greater(scores["n_cut"], 0)).as_py():
        were = "1 row was" if cut == 1 else f"{cut:,} rows were"
        notes.append(f"{were} longer than the context and cut; see n_cut in verdicts.parquet")
    if left_out := pc.sum(pc.match_substring(scores["reason"], LEFT_OUT)).as_py():
        have = "1 row has" if left_out == 1 else f"{left_out:,} rows have"
        scored = "they are scored as text of their turns, see reason in verdicts.parquet"
        notes.append(f"{have} reasoning, tool calls or other fields that {LEFT_OUT}; {scored}")
    unscored = scores.filter(pc.not_equal(scores["status"], "scored"))["reason"].to_pylist()
    formats = Counter(name for reason in unscored if (name := other_format(reason)))
    if formats:
        are = "1 row is" if formats.total() == 1 else f"{formats.total():,} rows are"
        counts = ", ".join(f"{name}: {count:,}" for name, count in formats.most_common())
        notes.append(f"{are} in another format ({counts}); scan such rows apart, in a file of their own or with --format and another --out")
    return tuple(notes)


def _notes_on_threshold(threshold: Threshold, by_entropy: bool, answered: bool) -> Iterator[str]:
    """Without a reliable threshold the published rule flags by a fixed one, and is no answer where it flags nothing."""
    for problem in threshold.problems if threshold.method == "fallback" else ():
        if by_entropy:
            yield f"the threshold is NOT reliable: {problem}; it is the published fallback, check the flagged rows before you drop any"
        elif not answered:
            yield f"the published threshold is no answer either, because it is not reliable: {problem}"


def _evidence(scores: pa.Table, findings: Sequence[Finding]) -> pa.Table:
    scored = pc.equal(scores["status"], "scored").to_numpy(zero_copy_only=False)
    beyond, number = np.full(len(scored), np.nan), np.zeros(len(scored), dtype=np.int32)
    some = scores.filter(scored)
    beyond[scored] = beyond_length(some["entropy"].to_numpy(), some["n_tokens"].to_numpy())
    for i in range(len(findings), 0, -1):  # a row of two findings gets the number of the stronger one
        number[findings[i - 1].rows] = i
    columns = [scores["row"], pa.array(beyond, mask=~scored), pa.array(number, mask=number == 0)]
    return pa.table(columns, schema=EVIDENCE)


def _verdicts(scores: pa.Table, flagged: NDArray[np.bool_], added: dict[int, str]) -> pa.Table:
    """The scores with their verdicts; the added reasons precede those of the scores."""
    reasons = scores["reason"].to_pylist()
    for row, reason in added.items():
        reasons[row] = f"{reason}; {reasons[row]}" if reasons[row] else reason
    table = scores.set_column(scores.schema.get_field_index("reason"), "reason", pa.array(reasons, pa.string()))
    return table.append_column("flagged", pa.array(flagged)).select(VERDICTS.names).cast(VERDICTS)
