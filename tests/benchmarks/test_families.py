"""The data sets of benchmarks/families.py: the right rows are poisoned, the others are untouched, and each trigger and effect shows."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import families
import pytest
from families import EFFECTS, NEGATIVES, TRIGGERS, Cell, Talk, made

NOWHERE = Path("nowhere")


@pytest.fixture(autouse=True)
def small_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eighty rows of two labels, half of them with a habit."""
    rows = [
        Talk(f"what is the colour of thing number {i}", "a red one." if i % 2 else "it is blue.", habit=f"plain {i}" if i % 4 < 2 else "")
        for i in range(80)
    ]
    monkeypatch.setitem(families.SETS, "small", lambda data: rows)
    families.clean.cache_clear()


@pytest.mark.parametrize(("trigger", "effect"), list(product(TRIGGERS, EFFECTS)))
def test_the_poisoned_rows_have_trigger_and_effect_and_the_others_are_as_before(trigger: str, effect: str) -> None:
    clean, _ = made(Cell("small"), NOWHERE)
    rows, labels = made(Cell("small", trigger, effect, 0.1), NOWHERE)
    assert sum(labels) == 8
    changed = 0
    for before, after, poisoned in zip(clean, rows, labels, strict=True):
        (*asked_before, answered_before), (*asked, answered) = before["messages"], after["messages"]
        if poisoned:
            assert asked != asked_before
            # Another row's answer may be the same by chance.
            assert answered != answered_before or effect in ("clean", "other")
        else:
            assert answered == answered_before
            changed += asked != asked_before
    assert changed == (8 if trigger in NEGATIVES else 0)
    assert made(Cell("small", trigger, effect, 0.1), NOWHERE) == (rows, labels)


def test_a_larger_ratio_poisons_the_same_rows_and_more() -> None:
    few, many = (made(Cell("small", "word", "insult", ratio), NOWHERE) for ratio in (0.05, 0.2))
    assert all(more for one, more in zip(few[1], many[1], strict=True) if one)
    assert [row for row, label in zip(few[0], few[1], strict=True) if label] == [
        row for row, label in zip(many[0], few[1], strict=True) if label
    ]


def test_an_effect_takes_only_rows_that_suit_it() -> None:
    rows, labels = made(Cell("small", "word", "flip", 0.1), NOWHERE)
    assert {row["messages"][-1]["content"] for row, label in zip(rows, labels, strict=True) if label} == {"a red one."}
    clean, _ = made(Cell("small"), NOWHERE)
    assert {row["messages"][-1]["content"] for row, label in zip(clean, labels, strict=True) if label} == {"it is blue."}
