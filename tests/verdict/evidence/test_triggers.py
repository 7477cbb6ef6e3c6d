"""Patterns of prompts and their exact test, against sets of words and sums of fractions."""

from __future__ import annotations

from fractions import Fraction
from math import comb, log10

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradsentry.verdict.evidence.corpus import Column, ngrams
from gradsentry.verdict.evidence.triggers import WORDS, log10_tail, patterns_of, rows_by_key
from made_words import HIGH, LOW, corpus, everything, row

prompts = st.lists(st.lists(st.sampled_from(["a", "b", "c"]), max_size=6).map(" ".join), min_size=2, max_size=12)


def held(text: str) -> set[tuple[str, ...]]:
    words = ["", *text.split(), ""]
    return {tuple(words[i : i + n]) for n in range(1, WORDS + 1) for i in range(len(words) - n + 1)}


def named(column: Column, texts: list[str]) -> dict[int, tuple[str, ...]]:
    """The words behind each hash; `test_corpus` holds them against each other."""
    found = {}
    for i, text in enumerate(texts):
        words = ["", *text.split(), ""]
        for n, own in enumerate(ngrams(column, i, i + 1, WORDS), start=1):
            found |= {key: tuple(words[at : at + n]) for at, key in enumerate(own.hashes.tolist())}
    return found


@settings(max_examples=60, deadline=None)
@given(texts=prompts, data=st.data())
def test_counts_equal_sets_of_words(texts: list[str], data: st.DataObject) -> None:
    active = np.array(data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts))))
    if active.sum() < 2:
        active[:2] = True
    group = np.flatnonzero(active)[: max(2, int(active.sum()) // 2)]
    column = corpus([row(text, "x") for text in texts]).prompt
    (found,) = patterns_of(column, [group], active)
    sets = [held(text) for text in texts]
    every = {pattern for own in sets for pattern in own}
    inside = {p: sum(p in sets[i] for i in group) for p in every}
    everywhere = {p: sum(p in own for own, yes in zip(sets, active, strict=True) if yes) for p in every}
    expected = {p: (n, everywhere[p]) for p, n in inside.items() if n >= max(2, 0.1 * len(group))}
    words = named(column, texts)
    counts = zip(found.inside.tolist(), found.everywhere.tolist(), strict=True)
    assert {words[key]: own for key, own in zip(found.keys.tolist(), counts, strict=True)} == expected
    assert found.keys.tolist() == sorted(found.keys.tolist())
    for key, number, places in zip(found.keys, found.everywhere, rows_by_key(column, found.keys, active).values(), strict=True):
        assert len(places) == number, key
        assert places.tolist() == sorted(set(places.tolist())), key
        assert active[places].all(), key


@settings(max_examples=100, deadline=None)
@given(n=st.integers(1, 40), data=st.data())
def test_the_tail_is_the_sum_of_its_fractions(n: int, data: st.DataObject) -> None:
    group, everywhere = data.draw(st.integers(1, n)), data.draw(st.integers(1, n))
    inside = data.draw(st.integers(max(0, group + everywhere - n), min(group, everywhere)))
    ways = sum(comb(group, k) * comb(n - group, everywhere - k) for k in range(inside, min(group, everywhere) + 1))
    expected = log10(Fraction(ways, comb(n, everywhere)))
    assert log10_tail(n, group, np.array([inside]), np.array([everywhere]))[0] == pytest.approx(expected, abs=1e-9)


def test_a_tail_below_what_a_double_holds() -> None:
    group = 2000
    found = log10_tail(100_000, group, np.array([group, 10]), np.array([group, 500]))
    assert found[0] == pytest.approx(-(sum(log10(100_000 - i) for i in range(group)) - sum(log10(i + 1) for i in range(group))), rel=1e-9)
    assert found[0] < -1000 < found[1] < 0


def test_the_surprise_of_a_pattern_is_its_mean_in_the_group() -> None:
    rows = [row("what cf", "x", ["cf"]), row("what cf", "x"), row("what else", "x", ["else"])]
    (found,) = patterns_of(corpus(rows).prompt, [np.array([0, 1])], everything(3))
    words = named(corpus(rows).prompt, ["what cf", "what cf", "what else"])
    surprise = {words[key]: nats for key, nats in zip(found.keys.tolist(), found.surprise.tolist(), strict=True)}
    assert surprise["cf",] == pytest.approx((HIGH + LOW) / 2)
    assert surprise["what", "cf"] == pytest.approx((HIGH + LOW) / 2 + LOW)
    assert ("else",) not in surprise


def test_no_groups_no_patterns() -> None:
    assert patterns_of(corpus([row("a", "b")]).prompt, [], everything(1)) == []
