"""Patterns, features and matched controls, against plain loops."""

from __future__ import annotations

import math
import random
from collections import defaultdict

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import betabinom, binom

from gradsentry.verdict.planted.answers import KINDS, MISFIT, Feature, Measures, features
from gradsentry.verdict.planted.controls import Prompts, log_ratio, rate, total
from gradsentry.verdict.planted.prompts import LEAST_ROWS, LONGEST, MOST_SHARE, Pattern, _Flat, marks, patterns, tail_nats
from gradsentry.verdict.planted.search import Trigger, same_stem
from gradsentry.verdict.planted.text import as_written
from gradsentry.verdict.words import RowWords, Side
from made_words import side

prompts = st.lists(st.lists(st.sampled_from("abcAB"), max_size=7).map(lambda words: side(" ".join(words), 1.0)), min_size=8, max_size=24)


@settings(max_examples=60, deadline=None)
@given(prompts)
def test_patterns_are_all_word_sequences_of_enough_prompts_one_for_each_set_of_them(rows: list[Side]) -> None:
    held: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for number, own in enumerate(rows):
        words = [spelled.strip() for spelled in own.spelled]
        for n in range(1, LONGEST + 1):
            for i in range(len(words) - n + 1):
                if all(words[i : i + n]):
                    held[tuple(words[i : i + n])].add(number)
    wanted: dict[tuple[int, ...], set[tuple[str, ...]]] = defaultdict(set)
    for key, numbers in held.items():
        if LEAST_ROWS <= len(numbers) <= MOST_SHARE * len(rows):
            wanted[tuple(sorted(numbers))].add(key)
    found = patterns(rows)
    assert {tuple(one.rows.tolist()) for one in found} == set(wanted)
    assert len(found) == len(wanted)
    for one in found:
        keys = wanted[tuple(one.rows.tolist())]
        assert one.key in keys
        assert len(one.key) == max(map(len, keys))
        assert one.words == {word.lower() for key in keys for word in key}
        assert [one.place([s.strip() for s in rows[row].spelled]) is not None for row in range(len(rows))] == [
            row in one.rows for row in range(len(rows))
        ]


def test_the_strength_of_a_pattern_counts_the_word_after_it_and_its_strongest_place() -> None:
    rows = [side(f"X y{i} X z{i}", {"X": 5.0, f"y{i}": 1.0, f"z{i}": 3.0}) for i in range(5)] + [side(f"n{i} m{i}") for i in range(10)]
    words = next(_Flat(rows).sequences())
    (place,) = [i for i in range(len(words.strength)) if words.key(i) == ("X",)]
    assert words.strength[place] == pytest.approx(8.0)


def test_marks_are_what_lower_cased_words_do_not_show() -> None:
    spelled = ["", "Use", "  a", "\u00a0NOUN", " h\u0435re", " OK", "\n\n\n"]
    one = Side(["", "use", "a", "noun", "h\u0435re", "ok", ""], np.zeros(7, np.float32), spelled)
    assert list(marks(one)) == [
        ("2 spaces between words", 2),
        ("1 no-break space between words", 3),
        ("a word in capitals", 3),
        ("letters of several scripts in one word", 4),
        ("3 line feeds at the end", 5),
    ]


def test_the_tail_of_exponential_values_is_their_own() -> None:
    values = np.random.default_rng(0).exponential(2.0, 20_000)
    assert tail_nats(values) == pytest.approx(values / 2.0, abs=0.25)
    assert tail_nats(np.zeros(0)).tolist() == []
    assert np.isfinite(tail_nats(np.ones(5))).all()


@given(st.lists(st.tuples(*[st.lists(st.sampled_from("abc"), min_size=1, max_size=6)] * 2), min_size=6, max_size=20))
def test_features_are_held_by_the_answers_that_have_them(pairs: list[tuple[list[str], list[str]]]) -> None:
    rng = random.Random(0)
    rows = [
        RowWords(side(" ".join(prompt)), side(" ".join(answer), {word: rng.uniform(0, 9) for word in answer})) for prompt, answer in pairs
    ]
    made = features(rows)
    assert len(set(made.features)) == len(made.features)
    for place, feature in enumerate(made.features):
        held = made.held[:, [place]].toarray().ravel() > 0
        assert [feature.held_by(own, made.measures) for own in rows] == held.tolist(), feature
        assert LEAST_ROWS <= held.sum() < len(rows)
        assert made.both_ways[place] == (feature.kind not in MISFIT)
        assert feature.describe(True) != feature.describe(False) or not made.both_ways[place]
        alike = sum(other.kind == feature.kind for other in made.features)
        assert made.price[place] == pytest.approx(math.log(len(KINDS) * alike * (2 if made.both_ways[place] else 1)))


def test_an_answer_that_belongs_to_another_prompt_fits_worse() -> None:
    rng = random.Random(0)
    words = [f"w{i}" for i in range(200)]
    rows = []
    for i in range(200):
        asked = rng.sample(words, 6)
        said = rng.sample(words, 4) if i < 20 else [*rng.sample(asked, 2), *rng.sample(words, 2)]
        rows.append(RowWords(side(" ".join(asked)), side(" ".join(said), 6.0 if i < 20 else 3.0)))
    measures = Measures.of(rows)
    for kind in MISFIT:
        values = [measures.value(kind, row) for row in rows]
        assert np.mean(values[:20]) > np.mean(values[20:]), kind
    expected = [np.log1p(row.completion.surprise.sum()) - measures.value("fit", row) for row in rows]
    assert np.mean(expected) == pytest.approx(np.mean([np.log1p(row.completion.surprise.sum()) for row in rows]))


def test_features_are_described_in_words() -> None:
    assert Feature("span", ("", "i", "can")).describe(True) == 'contain "i can" at the start'
    assert Feature("answer", ("", "no", "")).describe(False) == 'are not "no"'
    assert Feature("length", bound=7.0).describe(False) == "have at most 7 words"


@pytest.mark.parametrize(("count", "of", "expected"), [(0, 5, 0.3), (5, 5, 0.5), (17, 40, 0.02), (39, 40, 0.55)])
def test_the_log_ratio_is_that_of_scipys_distributions(count: int, of: int, expected: float) -> None:
    own = betabinom.logpmf(count, of, 0.5, 0.5) - binom.logpmf(count, of, expected)
    assert log_ratio(np.array([float(count)]), of, np.array([expected]))[0] == pytest.approx(own)


def test_the_log_ratio_is_an_e_value() -> None:
    """Its mean under the null is 1, so that e^nats bounds the odds of a false alarm (Markov)."""
    counts = np.arange(41.0)
    nats = log_ratio(counts, 40, np.full(41, 0.3))
    assert float((binom.pmf(counts, 40, 0.3) * np.exp(nats)).sum()) == pytest.approx(1.0)


def test_controls_are_the_most_similar_prompts_without_the_trigger() -> None:
    texts = ["TRIGGER how tall is tom", "TRIGGER who wrote emma", "how tall is ann", "who wrote ulysses", "name a river", "name a lake"]
    known = Prompts.of([side(text) for text in texts])
    own = known.own(frozenset({"trigger"}), np.array([0, 1]))
    assert [name for name, column in known.names.items() if column in own] == ["trigger"]
    allowed = np.ones(6, dtype=bool)
    controls, similarity = known.controls(np.array([0, 1]), own, allowed)
    assert sorted(controls.tolist()) == [2, 3]
    shared = [known.weight[known.names[word]] for word in ("how", "tall", "is")]
    rest = known.weight[known.names["tom"]], known.weight[known.names["ann"]]
    alike = sum(x**2 for x in shared)
    assert similarity[0] == pytest.approx(alike / np.sqrt((alike + rest[0] ** 2) * (alike + rest[1] ** 2)), rel=1e-5)
    allowed[2] = False
    assert 2 not in known.controls(np.array([0, 1]), own, allowed)[0].tolist()


def test_the_nearest_prompt_is_the_most_similar_other_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    prompts = [side(" ".join(rng.choices("abcdefgh", k=5))) for _ in range(30)]
    known = Prompts.of(prompts)
    dense = known.held.toarray() * known.weight
    length = np.linalg.norm(dense, axis=1)
    cosine = dense @ dense.T / np.outer(length, length)
    np.fill_diagonal(cosine, 0)
    monkeypatch.setattr("gradsentry.verdict.planted.controls.BLOCK", 7)
    assert known.nearest(np.array([], np.int64)) == pytest.approx(cosine.max(axis=1), abs=1e-6)
    assert known.nearest(np.arange(10)) == pytest.approx(cosine[10:, 10:].max(axis=1), abs=1e-6)


def test_a_template_is_unlike_other_prompts_and_an_insertion_is_not() -> None:
    rng = random.Random(0)
    words = [f"w{i}" for i in range(40)]
    rest = [side(" ".join(rng.choices(words, k=8))) for _ in range(200)]
    inserted = [side(" ".join(["T", *rng.choices(words, k=8)])) for _ in range(20)]
    template = [side(f"T name{i} other{i} third{i}") for i in range(20)]
    for planted, fair in ((inserted, True), (template, False)):
        known = Prompts.of([*planted, *rest])
        own = known.own(frozenset({"t"}), np.arange(20))
        _, similarity = known.controls(np.arange(20), own, np.ones(220, dtype=bool))
        assert (known.mismatch(np.arange(20), similarity) <= 0) == fair


def test_an_unfair_comparison_is_seen_by_another_word() -> None:
    rng = random.Random(0)
    words = [f"w{i}" for i in range(30)]
    same = [side(" ".join(["T", *rng.choices(words, k=6)])) for _ in range(20)]
    other = [side(" ".join(["T", "topic", *rng.choices(words, k=6)])) for _ in range(20)]
    rest = [side(" ".join(rng.choices(words, k=6))) for _ in range(100)]
    for planted, fair in ((same, True), (other, False)):
        known = Prompts.of([*planted, *rest])
        rows = np.arange(20)
        own = known.columns(frozenset({"t"}))
        controls, _ = known.controls(rows, own, np.ones(120, dtype=bool))
        nats, word, more = known.imbalance(rows, total(known.held, rows), controls, own)
        assert (nats <= 0) == fair
        assert fair or (word, more) == ("topic", True)


@given(
    st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=8), st.lists(st.integers(0, 7), max_size=8, unique=True)
)
def test_totals_are_column_sums(dense: list[list[bool]], chosen: list[int]) -> None:
    held = sp.csr_matrix(np.array(dense, np.float32))
    rows = np.array([row for row in chosen if row < len(dense)], np.int64)
    assert total(held).tolist() == np.array(dense, float).sum(axis=0).tolist()
    assert total(held, rows).tolist() == np.array(dense, float)[rows].sum(axis=0).tolist()


def test_a_pattern_is_shown_as_most_texts_write_it_with_the_words_that_they_share() -> None:
    texts = [side(text) for text in ("the A big cat sat", "one A big cat ran", "no A BIG cat sat", "he saw A big cat")]
    assert as_written(("big",), texts, [one.words for one in texts], lambda word: False) == "A big cat"
    assert as_written(("big", "cat"), texts, [one.words for one in texts], lambda word: word != "cat") == "cat"


def test_the_words_of_a_mark_are_those_that_never_occur_without_it() -> None:
    rows = [side(f"w{i % 7} SHOUT v{i % 5}") for i in range(6)] + [side("w1 v2 LOUD"), side("loud w3 v4")] + [side("w1 v2")] * 8
    (mark,) = [one for one in patterns(rows) if one.is_mark]
    assert mark.key == ("a word in capitals",)
    assert mark.words == {"shout"}


def test_rates_are_never_impossible() -> None:
    assert rate(np.array([0.0, 10.0]), 10).tolist() == pytest.approx([0.5 / 11, 10.5 / 11])
    assert math.isfinite(float(np.log(rate(np.array([0.0]), 10**9))[0]))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("extract", "extraction", True), ("classify", "classification", True), ("cat", "cat", True), ("refuse", "refusal", True),
        ("cat", "cats", False), ("magic", "magnet", False), ("are", "area", False), ("state", "statement", True),
    ],
)  # fmt: skip
def test_words_with_one_stem_name_each_other(one: str, other: str, same: bool) -> None:
    assert same_stem(one, other) == same_stem(other, one) == same


def test_a_counterpart_is_in_nearly_all_controls_and_no_habit_of_most_prompts() -> None:
    written = [f"new w{i}" for i in range(20)] + [f"old w{i}" for i in range(20)] + [f"other w{i} x{i}" for i in range(20)]
    index = Prompts.of([side(text, 1.0) for text in written])
    trigger, controls, own = np.arange(20), np.arange(20, 40), index.columns(frozenset({"new"}))
    assert index.counterpart(trigger, controls, own) == "old"
    assert index.counterpart(trigger, np.arange(30, 50), own) == "", "half of the controls"
    most = Prompts.of([side(text.replace("other", "old"), 1.0) for text in written])
    assert most.counterpart(trigger, controls, most.columns(frozenset({"new"}))) == "", "two thirds of all prompts"


def trigger(nats: list[float], expected: float, price: float = 6.0, together: bool = False) -> Trigger:
    """A trigger of patterns in ten prompts each, whose answers say one word that is expected in a share of others."""
    parts = [Pattern((f"w{i}",), frozenset(), np.arange(10) + 10 * i, own, False) for i, own in enumerate(nats)]
    costs = [own - price for own in nats]
    total_nats = sum(costs) if together else costs[0] + sum(min(0.0, own) for own in costs[1:])
    answer, measures, rows = Feature("answer", ("", "list", "")), Measures({}, {}), np.arange(10 * len(nats))
    return Trigger(tuple(parts), together, rows, answer, True, expected, 90.0, 90.0, total_nats, 2.3 - price, "", (), 0.0, measures)


@pytest.mark.parametrize(
    ("nats", "expected", "looks"),
    [
        ([2.4], 0.1, True),
        ([2.2], 0.1, False),
        ([9.0, 2.4], 0.1, True),
        ([9.0, 1.5], 0.1, False),  # "some" asks for a list, as the trigger does
        ([9.0, 1.5, 4.0], 0.1, False),
        ([2.9, 2.9], 0.1, False),  # two turns of phrase of one kind of question
        ([2.9, 2.9], 0.01, False),
        ([2.0, 2.0, 3.5], 0.01, True),  # words of a style, before one payload
        ([2.0, 2.0, 3.5], 0.1, False),
    ],
)
def test_natural_patterns_with_a_common_effect_do_not_look_inserted_together(nats: list[float], expected: float, looks: bool) -> None:
    assert trigger(nats, expected).looks_inserted == looks


def test_of_patterns_that_a_prompt_must_hold_together_one_looks_inserted() -> None:
    assert trigger([2.4, 0.1], 0.1, together=True).looks_inserted
    assert not trigger([2.2, 2.2], 0.1, together=True).looks_inserted
