"""Verdicts against the rule applied row by row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradsentry.errors import UsageError
from gradsentry.schema import EVIDENCE, SCORES, VERDICTS
from gradsentry.verdict.combine import combine, scored_entropies
from gradsentry.verdict.finding import Finding

scored_rows = st.builds(
    lambda entropy, n, reason: {"status": "scored", "entropy": entropy, "n_tokens": n, "loss": 1.5, "reason": reason},
    st.floats(0, 1),
    st.integers(1, 9),
    st.sampled_from(["", "longer than 8 tokens: 2 tokens cut"]),
)
other_rows = st.builds(
    lambda status: {"status": status, "entropy": None, "n_tokens": 0, "loss": None, "reason": f"why it is {status}"},
    st.sampled_from(["unscorable", "error"]),
)


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([{"row": i} | row for i, row in enumerate(rows)], schema=SCORES)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(scored_rows | other_rows, max_size=30), value=st.floats(0, 1))
def test_flagged_are_the_scored_rows_above_the_threshold_and_no_others(rows: list[dict[str, Any]], value: float) -> None:
    decision = combine(table(rows), repr(value))
    expected = [row["status"] == "scored" and row["entropy"] > value for row in rows]
    assert decision.flagged.tolist() == expected
    assert decision.verdicts.schema.equals(VERDICTS)
    assert decision.verdicts["row"].to_pylist() == list(range(len(rows)))
    for column in ("status", "entropy", "n_tokens", "loss"):
        assert decision.verdicts[column].to_pylist() == [row[column] for row in rows]


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(scored_rows | other_rows, max_size=30), value=st.floats(0, 1))
def test_counts_add_up(rows: list[dict[str, Any]], value: float) -> None:
    counts = combine(table(rows), repr(value)).counts
    for status in ("scored", "unscorable", "error"):
        assert counts[status] == sum(row["status"] == status for row in rows)
    assert counts["rows"] == len(rows) == counts["scored"] + counts["unscorable"] + counts["error"]
    assert counts["unexamined"] == counts["unscorable"] + counts["error"] == len(rows) - counts["flagged"] - counts["kept"]
    assert counts["flagged"] == sum(row["status"] == "scored" and row["entropy"] > value for row in rows)


def test_a_row_on_the_threshold_is_kept() -> None:
    rows = [{"status": "scored", "entropy": e, "n_tokens": 1, "loss": 1.0, "reason": ""} for e in (0.5, np.nextafter(0.5, 1))]
    assert combine(table(rows), "0.5").flagged.tolist() == [False, True]


def test_a_row_flagged_by_its_entropy_says_so_whatever_else_it_looks_like() -> None:
    rows = [{"status": "scored", "entropy": e, "n_tokens": 1, "loss": 1.0, "reason": ""} for e in (0.9, 0.9, 0.1, 0.1)]
    named = Finding("explained", ("y",), "x", np.array([0, 2]), "contain x", 2, 2, 0.1, why="w")
    found = replace(named, kind="backdoor", rows=np.array([1, 3]))
    decision = combine(table(rows), "0.5", [found, named])
    assert decision.flagged.tolist() == [True, True, False, True]
    above, both, kept, only = decision.verdicts["reason"].to_pylist()
    assert above == "entropy above the threshold 0.5000"
    assert both == only == found.reason
    assert kept == named.reason
    alone = combine(table(rows), "0.5", [found, named], by_entropy=False)
    assert alone.flagged.tolist() == [False, True, False, True]
    assert alone.verdicts["reason"].to_pylist() == [named.reason, found.reason, named.reason, found.reason]


def test_the_reason_of_the_flag_precedes_the_reason_of_the_score() -> None:
    rows = [
        {"status": "scored", "entropy": 0.9, "n_tokens": 1, "loss": 1.0, "reason": ""},
        {"status": "scored", "entropy": 0.9, "n_tokens": 1, "loss": 1.0, "reason": "cut"},
        {"status": "scored", "entropy": 0.1, "n_tokens": 1, "loss": 1.0, "reason": "cut"},
        {"status": "error", "entropy": None, "n_tokens": 0, "loss": None, "reason": "broken"},
    ]
    assert combine(table(rows), "0.55").verdicts["reason"].to_pylist() == [
        "entropy above the threshold 0.5500",
        "entropy above the threshold 0.5500; cut",
        "cut",
        "broken",
    ]


@settings(max_examples=20, deadline=None)
@given(rows=st.lists(other_rows, max_size=5))
def test_without_a_scored_row_there_is_no_threshold_and_nothing_is_flagged(rows: list[dict[str, Any]]) -> None:
    decision = combine(table(rows), "auto")
    assert decision.threshold is None
    assert decision.flagged.tolist() == [False] * len(rows)
    assert decision.verdicts.schema.equals(VERDICTS)
    assert decision.verdicts["reason"].to_pylist() == [row["reason"] for row in rows]
    assert (decision.counts["kept"], decision.counts["unexamined"]) == (0, len(rows))
    assert decision.level == ("look" if rows else "nothing found")


@pytest.mark.parametrize("by_entropy", [True, False])
def test_the_decision_has_its_rule_and_evidence_without_scored_rows(by_entropy: bool) -> None:
    rows = [{"status": "error", "entropy": None, "n_tokens": 0, "loss": None, "reason": "broken"}] * 3
    decision = combine(table(rows), "auto", by_entropy=by_entropy)
    assert decision.by_entropy == by_entropy
    assert decision.evidence.schema.equals(EVIDENCE)
    assert decision.evidence["row"].to_pylist() == [0, 1, 2]


def test_auto_finds_the_clusters_with_unscored_rows_in_between() -> None:
    rng = np.random.default_rng(0)
    entropies = [*rng.normal(0.3, 0.02, 100), *rng.normal(0.8, 0.02, 20)]
    rows = [{"status": "scored", "entropy": e, "n_tokens": 1, "loss": 1.0, "reason": ""} for e in entropies]
    broken = {"status": "error", "entropy": None, "n_tokens": 0, "loss": None, "reason": "broken"}
    decision = combine(table([broken, *rows, broken]), "auto")
    assert decision.threshold is not None
    assert decision.threshold.reliable
    assert np.flatnonzero(decision.flagged).tolist() == list(range(101, 121))


def test_entropies_of_a_table_in_several_parts_are_read_in_order() -> None:
    rows = [{"status": "scored", "entropy": e, "n_tokens": 1, "loss": 1.0, "reason": ""} for e in (0.3, 0.1, 0.2)]
    broken = {"status": "error", "entropy": None, "n_tokens": 0, "loss": None, "reason": "broken"}
    parts = pa.concat_tables([table(rows[:1]), table([broken]), table(rows[1:])])
    assert scored_entropies(parts).tolist() == [0.3, 0.1, 0.2]
    assert combine(parts, "0.15").flagged.tolist() == [True, False, False, True]


def test_an_impossible_threshold_is_refused() -> None:
    with pytest.raises(UsageError):
        combine(table([{"status": "scored", "entropy": 0.3, "n_tokens": 1, "loss": 1.0, "reason": ""}]), "most")
