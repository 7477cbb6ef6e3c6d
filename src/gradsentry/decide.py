"""Scores and a threshold -> verdicts. Pure: a table in, a table out; no model, no files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from gradsentry.store import VERDICTS
from gradsentry.threshold import Values, choose
from gradsentry.types import Threshold

pc: Any = pyarrow.compute  # its functions are made when it is imported, where no type checker sees them


@dataclass(frozen=True)
class Decision:
    """What is said of every row, and by which rule."""

    threshold: Threshold | None
    """None when no row could be scored."""
    verdicts: pa.Table
    """One line a row, in input order, columns as in `store.VERDICTS`."""

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


def decide(scores: pa.Table, threshold: str) -> Decision:
    """Flag the scored rows whose entropy is above the threshold.

    Args:
        scores: columns of `store.SCORES`. threshold: as `--threshold` takes it.

    Raises:
        UsageError: a threshold that cannot be.
    """
    entropies = scored_entropies(scores)
    if len(entropies) == 0:
        nothing = pa.array(np.zeros(scores.num_rows, dtype=bool))
        return Decision(None, scores.append_column("flagged", nothing).select(VERDICTS.names).cast(VERDICTS))
    chosen = choose(threshold, entropies)
    flagged = pc.fill_null(pc.greater(scores["entropy"], chosen.value), False)
    told = pc.binary_join_element_wise("entropy above the threshold ", f"{chosen.value:.4f}", "")
    both = pc.binary_join_element_wise(told, scores["reason"], "; ")
    noted = pc.if_else(pc.equal(scores["reason"], ""), told, both)
    table = scores.set_column(scores.schema.get_field_index("reason"), "reason", pc.if_else(flagged, noted, scores["reason"]))
    return Decision(chosen, table.append_column("flagged", flagged).select(VERDICTS.names).cast(VERDICTS))
