"""Names and types that others read: as documented in the design."""

from __future__ import annotations

import pyarrow as pa

from gradsentry.schema import EVIDENCE, PART, SCORES, VERDICTS
from gradsentry.verdict.combine import combine

SIDE = "struct<name: string, start: int32>"
BEFORE = [("row", "int64"), ("status", "string"), ("entropy", "double"), ("n_tokens", "int64"), ("loss", "double")]


def described(schema: pa.Schema) -> list[tuple[str, str]]:
    return [(field.name, str(field.type)) for field in schema]


def test_scores_and_verdicts_have_the_documented_columns() -> None:
    assert described(SCORES) == [*BEFORE, ("reason", "string"), ("n_cut", "int64")]
    assert described(VERDICTS) == [*BEFORE, ("flagged", "bool"), ("reason", "string"), ("n_cut", "int64")]


def test_a_part_begins_with_the_scores_and_holds_lists_beyond() -> None:
    assert PART.names == [*SCORES.names, "tokens", "nll", "supervised", "spelled_specials", "sides", "spectrum"]
    assert [str(field.type.value_type) for field in list(PART)[len(SCORES) :]] == ["int32", "halffloat", "bool", "int32", SIDE, "float"]


def test_decisions_are_made_in_these_columns() -> None:
    row = {"row": 0, "status": "scored", "entropy": 0.9, "n_tokens": 3, "loss": 1.0, "reason": ""}
    decision = combine(pa.Table.from_pylist([row], schema=SCORES), "0.5")
    assert decision.verdicts.schema.equals(VERDICTS)
    assert decision.evidence is not None
    assert decision.evidence.schema.equals(EVIDENCE)
