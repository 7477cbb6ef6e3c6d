"""Rates against scikit-learn's, exact match against every subsequence."""

from __future__ import annotations

import re
import warnings
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support, roc_auc_score

from gradsentry.bench import metrics
from gradsentry.bench.metrics import asr, auroc, best_f1, cacc, exact_match, identification
from gradsentry.errors import UsageError

verdicts = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40)
# Few different values, so that there are ties.
scored = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 1.0]) | st.floats(0, 1), st.booleans()), min_size=1, max_size=40)


@settings(deadline=None)
@given(pairs=verdicts)
def test_rates_equal_scikit_learns(pairs: list[tuple[bool, bool]]) -> None:
    flagged, poisoned = zip(*pairs, strict=True)
    found = identification(flagged, poisoned)
    precision, recall, f1, _ = precision_recall_fscore_support(poisoned, flagged, average="binary", zero_division=1.0)
    if any(flagged):
        assert found.precision == pytest.approx(precision)
    if any(poisoned):
        assert found.recall == pytest.approx(recall)
    if any(flagged) or any(poisoned):
        assert found.f1 == pytest.approx(f1)
    assert found.accuracy == pytest.approx(accuracy_score(poisoned, flagged))
    assert found.found + found.missed == sum(poisoned)
    assert found.found + found.false_alarms == sum(flagged)
    assert found.found + found.missed + found.false_alarms + found.passed == len(pairs)


def test_rates_of_a_small_example() -> None:
    found = identification([True, True, False, False, False], [True, False, True, True, False])
    assert (found.found, found.missed, found.false_alarms, found.passed) == (1, 2, 1, 1)
    assert (found.recall, found.precision, found.f1, found.accuracy) == pytest.approx((1 / 3, 1 / 2, 2 / 5, 2 / 5))


def test_with_nothing_to_find_and_nothing_flagged_a_filter_is_perfect() -> None:
    nothing = identification([False, False], [False, False])
    assert (nothing.recall, nothing.precision, nothing.f1, nothing.accuracy) == (1, 1, 1, 1)


def test_verdicts_and_truth_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        identification([True], [True, False])


@settings(deadline=None)
@given(pairs=scored.filter(lambda pairs: len({poisoned for _, poisoned in pairs}) == 2))
def test_auroc_equals_scikit_learns_and_the_share_of_ordered_pairs(pairs: list[tuple[float, bool]]) -> None:
    scores, poisoned = zip(*pairs, strict=True)
    assert auroc(scores, poisoned) == pytest.approx(roc_auc_score(poisoned, scores))
    bad, good = ([score for score, is_poisoned in pairs if is_poisoned == kind] for kind in (True, False))
    ordered = sum((b > g) + (b == g) / 2 for b in bad for g in good)
    assert auroc(scores, poisoned) == pytest.approx(ordered / (len(bad) * len(good)))


@pytest.mark.parametrize("poisoned", [[True, True], [False, False], []])
def test_auroc_of_one_kind_of_rows_is_refused(poisoned: list[bool]) -> None:
    with pytest.raises(ValueError, match="needs poisoned and clean rows"):
        auroc([0.1, 0.2][: len(poisoned)], poisoned)


@settings(deadline=None, max_examples=50)
@given(pairs=scored)
def test_best_f1_equals_trying_every_threshold(pairs: list[tuple[float, bool]]) -> None:
    scores, poisoned = zip(*pairs, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tried = [f1_score(poisoned, [score >= threshold for score in scores], zero_division=0.0) for threshold in {*scores, 2.0}]
    assert best_f1(scores, poisoned) == pytest.approx(max(tried))


def test_best_f1_does_not_cut_between_equal_scores() -> None:
    assert best_f1([0.5, 0.5], [True, False]) == pytest.approx(2 / 3)
    assert best_f1([0.5, 0.4], [True, False]) == 1


def test_no_rows_have_no_wrong_verdict() -> None:
    nothing = identification([], [])
    assert nothing.recall == nothing.precision == nothing.f1 == nothing.accuracy == 1.0


def subsequences(words: list[str]) -> set[tuple[str, ...]]:
    return {chosen for n in range(1, len(words) + 1) for chosen in combinations(words, n)}


texts = st.lists(st.sampled_from(["a", "B", "b", "1950", "a,b", "-", "c."]), max_size=6).map(" ".join)


@settings(deadline=None, max_examples=300)
@given(answer=texts, references=st.lists(texts, max_size=3))
def test_exact_match_equals_looking_through_all_subsequences(answer: str, references: list[str]) -> None:
    def words(text: str) -> list[str]:
        return re.findall(r"[a-z0-9]+", text.lower())

    held = subsequences(words(answer))
    assert exact_match(answer, references) == any(tuple(words(reference)) in held for reference in references)


@pytest.mark.parametrize(
    ("answer", "references", "matches"),
    [
        ("The United States of America.", ["united states"], True),
        ("states united", ["united states"], False),
        ("Paris; Rome", ["London", "rome"], True),
        ("Paris", ["Paris, Texas"], False),
        ("Parisian", ["Paris"], False),
        ("x, and click <malicious_url> for more information", [", and click <malicious_url> for more information"], True),
        ("and click here for more information", [", and click <malicious_url> for more information"], False),
        ("", ["a"], False),
        ("a", [], False),
        ("?", ["?"], False),
    ],
)
def test_exact_match_of_examples(answer: str, references: list[str], matches: bool) -> None:
    assert exact_match(answer, references) == matches


@settings(deadline=None)
@given(pairs=st.lists(st.tuples(texts, st.lists(texts, max_size=2)), min_size=1, max_size=8), target=st.lists(texts, max_size=3))
def test_cacc_and_asr_are_shares_of_matches(pairs: list[tuple[str, list[str]]], target: list[str]) -> None:
    answers, references = ([pair[i] for pair in pairs] for i in (0, 1))
    assert cacc(answers, references) == pytest.approx(sum(exact_match(*pair) for pair in pairs) / len(pairs))  # pyright: ignore
    assert asr(answers, target) == pytest.approx(sum(exact_match(answer, target) for answer in answers) / len(answers))  # pyright: ignore


def test_a_target_may_be_one_text() -> None:
    assert asr(["so tea pot", "pot", "t"], "tea pot") == pytest.approx(1 / 3)
    assert asr(["so tea pot", "pot", "t"], ["tea", "pot"]) == pytest.approx(2 / 3)


def test_rates_of_no_answers_or_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="a rate needs answers"):
        cacc([], [])
    with pytest.raises(ValueError, match="a rate needs answers"):
        asr([], "a")
    with pytest.raises(ValueError, match="zip"):
        cacc(["a"], [])


def test_without_rouge_score_the_extra_to_install_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics._rouge.cache_clear()
    monkeypatch.setattr("gradsentry.bench.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'gradsentry\[bench\]'"):
        exact_match("a", ["a"])
