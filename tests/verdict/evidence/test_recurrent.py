"""Recurrent spans against a dictionary of lists."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradsentry.verdict.evidence import recurrent
from gradsentry.verdict.evidence.recurrent import Counts, Span, count_spans, recurrent_spans, unions_of_variants
from gradsentry.verdict.words import RowWords
from made_words import HIGH, LOW, corpus, everything, row, side

texts = st.lists(st.lists(st.sampled_from(["a", "b", "ODD"]), max_size=7).map(" ".join), min_size=1, max_size=10)


def by_hand(rows: list[str]) -> dict[tuple[str, ...], dict[int, float]]:
    """Highest surprise of each span in each row where it is unexpected."""
    found: dict[tuple[str, ...], dict[int, float]] = defaultdict(dict)
    for number, text in enumerate(rows):
        words = ["", *text.lower().split(), ""]
        for n in range(1, recurrent.LONGEST + 1):
            for i in range(len(words) - n + 1):
                nats = sum(HIGH if word == "odd" else LOW if word else 0 for word in words[i : i + n])
                if nats >= recurrent.UNEXPECTED:
                    key = tuple(words[i : i + n])
                    found[key][number] = max(nats, found[key].get(number, 0))
    return found


@settings(max_examples=60, deadline=None)
@given(rows=texts, left_out=st.sets(st.integers(0, 9)))
def test_counts_equal_a_dictionary(rows: list[str], left_out: set[int]) -> None:
    active = np.array([i not in left_out for i in range(len(rows))])
    column = corpus([RowWords(side(""), side(text, {"ODD": HIGH})) for text in rows]).completion
    expected = by_hand([text if active[i] else "" for i, text in enumerate(rows)])
    for n, own in enumerate(count_spans(column, active), start=1):
        mine = [held for words, held in expected.items() if len(words) == n]
        assert Counter(own.rows.tolist()) == Counter(len(held) for held in mine)
        assert sorted(own.total.tolist()) == pytest.approx(sorted(sum(held.values()) for held in mine))
        assert own.missed == 0


@settings(max_examples=50, deadline=None)
@given(batches=st.lists(st.lists(st.integers(0, 12), max_size=20), max_size=8), capacity=st.integers(1, 6))
def test_with_little_memory_no_count_is_too_high_nor_lower_than_stated(batches: list[list[int]], capacity: int) -> None:
    counts = Counts(capacity)
    for batch in batches:
        counts.add(np.array(batch, np.uint64), np.ones(len(batch), np.float32))
    true = Counter(key for batch in batches for key in batch)
    held = dict(zip(counts.hashes.tolist(), counts.rows.tolist(), strict=True))
    assert len(held) <= capacity
    for key, number in true.items():
        assert number - counts.missed <= held.get(key, 0) <= number


def test_a_payload_is_one_span_whose_pieces_are_alike() -> None:
    clean = [row(f"q{i}", f"answer{i} word{i}") for i in range(20)]
    bad = [row(f"q{i}", f"answer{i} , CLICK EVIL Link", ["CLICK", "EVIL"]) for i in range(20, 26)]
    found = recurrent_spans(corpus([*clean, *bad]).completion, everything(26))
    assert len(found) == 1
    assert found[0].rows.tolist() == list(range(20, 26))
    assert found[0].surprise == pytest.approx(2 * HIGH + 2 * LOW)
    assert found[0].score == pytest.approx(found[0].surprise * np.log(6))
    assert len(found[0].pieces) == 5


def test_case_and_spacing_do_not_matter() -> None:
    rows = [row("q", text, text.split()) for text in ("Click  HERE now", "click here NOW", "CLICK here\nnow")]
    assert recurrent_spans(corpus(rows).completion, everything(3))[0].rows.tolist() == [0, 1, 2]


def test_words_in_two_rows_and_expected_words_are_no_span() -> None:
    rows = [row("q", "EVIL words", ["EVIL"])] * 2 + [row("q", "good one")] * 3
    assert recurrent_spans(corpus(rows).completion, everything(5)) == []


def test_variants_are_taken_together_above_each_cut() -> None:
    made = [Span(i, 3, np.arange(10 * i, 10 * i + 5), 60.0) for i in range(4)] + [Span(9, 1, np.arange(100, 120), 15.0)]
    unions = unions_of_variants(made, n_rows=1000)
    assert [len(union.rows) for union in unions] == [20, 40]
    assert [union.variants for union in unions] == [4, 5]
    assert unions_of_variants(made[:1], n_rows=1000) == []
    assert unions_of_variants(made, n_rows=40) == []  # in so many rows each is more than a variant


def test_a_lower_cut_that_adds_a_few_rows_is_looked_at_too() -> None:
    made = [Span(i, 3, np.arange(10 * i, 10 * i + 5), 60.0) for i in range(19)] + [Span(19, 3, np.arange(190, 195), 25.0)]
    assert [len(union.rows) for union in unions_of_variants(made, n_rows=1000)] == [95, 100]  # 95 % of each other, and yet two
    assert len(unions_of_variants(made[:19], n_rows=1000)) == 1  # the cuts below add nothing
