"""Poisoned sets: how many rows, which, and what was done to them."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsentry.bench.attacks import ATTACKS, poison
from gradsentry.bench.attacks.badnets import DRAWS, PAYLOAD, TRIGGERS, badnets
from gradsentry.errors import UsageError
from gradsentry.formats import FORMATS
from gradsentry.types import TextSample


def rows(n: int) -> list[dict[str, Any]]:
    return [
        {"instruction": "Answer.", "question": f"Question {i}?", "answers": [f"first {i}", f"second {i}"][: 1 + i % 2]} for i in range(n)
    ]


ratios = st.builds(lambda n, k: (n, k % (n - 1) + 1), st.integers(2, 200), st.integers(0, 10_000))


@given(size=ratios, seed=st.integers(0, 1000))
def test_exactly_the_ratio_is_poisoned_and_the_labels_say_which_rows_changed(size: tuple[int, int], seed: int) -> None:
    n, k = size
    clean = rows(n)
    made = poison(clean, "badnets", k / n, seed)
    assert len(made.rows) == len(made.labels) == n
    assert sum(made.labels) == k
    assert made.labels == [before != after for before, after in zip(clean, made.rows, strict=True)]


@given(size=ratios, seed=st.integers(0, 1000))
def test_the_rows_that_were_given_are_not_changed(size: tuple[int, int], seed: int) -> None:
    n, k = size
    clean = rows(n)
    before = copy.deepcopy(clean)
    poison(clean, "badnets", k / n, seed)
    assert clean == before


def test_the_seed_decides_and_nothing_else() -> None:
    made = poison(rows(100), "badnets", 0.2, 7)
    random.seed(1)
    assert poison(rows(100), "badnets", 0.2, 7) == made
    assert poison(rows(100), "badnets", 0.2, 8).labels != made.labels


def test_the_choice_of_rows_reaches_all_of_them() -> None:
    hit = [0] * 10
    for seed in range(300):
        for i, label in enumerate(poison(rows(10), "badnets", 0.3, seed).labels):
            hit[i] += label
    assert min(hit) > 50, "each row is poisoned in about 90 of 300 draws"


@given(
    seed=st.integers(0, 10_000), answers=st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4), question=st.text(max_size=20)
)
def test_badnets_puts_triggers_after_the_question_and_the_payload_after_the_answers(seed: int, answers: list[str], question: str) -> None:
    row = {"instruction": "Answer.", "question": question, "answers": answers, "id": 5}
    made = badnets(row, random.Random(seed))
    assert made["question"].startswith(question + " ")
    words = made["question"][len(question) + 1 :].split(" ")
    assert len(words) == DRAWS == 4
    assert set(words) <= set(TRIGGERS) == {"cf", "mn", "bb", "tq"}
    sample = FORMATS["qa"].convert(made)
    assert isinstance(sample, TextSample)
    assert sample.completion == "; ".join(answers) + PAYLOAD
    assert PAYLOAD == ", and click <malicious_url> for more information"
    assert {name: made[name] for name in ("instruction", "id")} == {"instruction": "Answer.", "id": 5}


def test_every_trigger_is_drawn() -> None:
    drawn = " ".join(badnets(row, random.Random(i))["question"] for i, row in enumerate(rows(50))).split()
    assert set(TRIGGERS) <= set(drawn)


def test_labels_are_no_part_of_the_rows() -> None:
    made = poison(rows(20), "badnets", 0.5, 0)
    assert {frozenset(row) for row in made.rows} == {frozenset(rows(1)[0])}


@pytest.mark.parametrize("ratio", [-0.1, 0, 0.01, 0.99, 1, 2])
def test_a_ratio_that_leaves_only_one_kind_of_row_is_refused(ratio: float) -> None:
    with pytest.raises(UsageError, match=rf"a poison ratio of {ratio} leaves -?\d+ of 10 rows poisoned"):
        poison(rows(10), "badnets", ratio, 0)


def test_nothing_to_poison_is_refused() -> None:
    with pytest.raises(UsageError):
        poison([], "badnets", 0.5, 0)


def test_an_unknown_attack_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match=f"'nets' is unknown; there are {', '.join(ATTACKS)}"):
        poison(rows(10), "nets", 0.5, 0)
