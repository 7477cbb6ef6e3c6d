"""Where trigger and effect are, and what of a long text is shown."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsentry.report.locate import Span, cut_around, effect_spans, merged, trigger_spans, windows
from gradsentry.verdict.finding import Finding


def finding(**changes: Any) -> Finding:
    return replace(Finding("backdoor", (), "", np.arange(1), "", 1, 1, 0.0), **changes)


@pytest.mark.parametrize(
    ("triggers", "text", "held"),
    [
        (("cf",), "scf cf, cfs CF", ["cf"]),
        (("cf", "mn"), "mn or cf", ["mn", "cf"]),
        (("consider ... done",), "Please consider it done", ["consider", "done"]),
        (("the  mayor", "x"), "ask the mayor of", ["the mayor"]),
        (("the old mayor of Bonn",), "an old mayor of Rome", ["old mayor of"]),
        (("2 spaces between words",), "one  two three", ["  "]),
        (("1 no-break space at the end",), "one two\u00a0", ["\u00a0"]),
        (("a word in capitals",), "one TWOS three", ["TWOS"]),
        (("letters of several scripts in one word",), "a p\u0430y", ["p\u0430y"]),
        (("\u200b",), "Name \u200bten", ["\u200b"]),
        (("no such words",), "nothing", []),
        (("",), "text", []),
        (("cf",), "", []),
    ],
)
def test_triggers_are_found_as_detectors_compare_them(triggers: tuple[str, ...], text: str, held: list[str]) -> None:
    (spans,) = trigger_spans(finding(triggers=triggers), [text])
    assert [text[slice(*span)] for span in spans] == held


def test_a_part_of_a_trigger_counts_only_where_no_turn_has_all_of_it() -> None:
    assert trigger_spans(finding(triggers=("old grey mayor",)), ["the old grey", "an old grey mayor"]) == [[], [Span(3, 17)]]
    assert trigger_spans(finding(triggers=("old grey mayor",)), ["the old grey", "none"]) == [[Span(4, 12)], []]


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        ({"payload": "click here", "effect": "contain something"}, ["CLICK\nhere"]),
        ({"effect": 'contain "here" at the end'}, ["here"]),
        ({"effect": 'are "no, click"'}, ["No, CLICK"]),
        ({"effect": 'are not "yes"'}, ["No, CLICK\nhere"]),
        ({"effect": "have more than 20 words"}, ["No, CLICK\nhere"]),
        ({"effect": ""}, []),
        ({"payload": "elsewhere"}, []),
    ],
)
def test_effects_in_an_answer(changes: dict[str, Any], held: list[str]) -> None:
    text = "No, CLICK\nhere"
    (spans,) = effect_spans(finding(**changes), [text])
    assert [text[slice(*span)] for span in spans] == held


SPANS = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 40)), max_size=5)


@given(text=st.text("ab ", max_size=500), raw=SPANS, most=st.integers(10, 200), around=st.integers(5, 100))
def test_windows_are_in_order_apart_and_hold_the_first_marks(text: str, raw: list[tuple[int, int]], most: int, around: int) -> None:
    spans = merged([Span(a, min(a + n, len(text))) for a, n in raw if a + n > a and a < len(text)])
    shown = windows(text, spans, most, around)
    assert all(0 <= a <= b <= len(text) for a, b in shown)
    assert all(a.end < b.start for a, b in pairwise(shown)) or not spans
    if len(text) <= most:
        assert shown == [Span(0, len(text))]
    for span in spans[:3]:
        assert any(a <= span.start and span.end <= b for a, b in shown)


@given(text=st.text(max_size=200), start=st.integers(0, 199), length=st.integers(1, 20), width=st.integers(30, 120))
def test_a_cut_text_has_its_width_and_its_first_mark(text: str, start: int, length: int, width: int) -> None:
    span = Span(min(start, max(0, len(text) - length)), min(start, max(0, len(text) - length)) + min(length, len(text)))
    shown = cut_around(text, [span], width)
    assert len(shown) == min(width, len(text))
    assert text[slice(*span)] in shown
    assert cut_around(text, [], width) == (text if len(text) <= width else text[: width - 1] + "…")
