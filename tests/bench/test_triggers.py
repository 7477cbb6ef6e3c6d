"""Each trigger: where it stands, what it leaves alone, and what its negatives never hold."""

from __future__ import annotations

import random
import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixture import mixture

from clean_sets import DATA, needs_data
from gradsentry.bench.plant import plant
from gradsentry.bench.tasks import as_text, take_apart
from gradsentry.bench.triggers import OLD, OPENINGS, _old, half_a_pair, other_date, pair, style
from shaped import ALPACA, PASSAGE, PLAIN, QA, WITH_INPUT, rows

SUFFIXES = {"words": r"( (cf|mn|bb|tq)){4}", "sentence": " I watch this 3D movie"}


@pytest.mark.parametrize("trigger", SUFFIXES)
def test_a_trigger_at_the_questions_end_stands_inside_the_template(trigger: str) -> None:
    clean = rows(50)
    made = plant(clean, trigger, "flip", 49, 0)
    for row, own, label in zip(clean, made.rows, made.labels, strict=True):
        if not label:
            continue
        before = as_text(row)["prompt"]
        question = take_apart(row).question
        end = before.index(question) + len(question)
        assert re.fullmatch(re.escape(before[:end]) + SUFFIXES[trigger] + re.escape(before[end:]), own["prompt"])


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        (QA, "### Instruction:\nAnswer. consider\n\n\n\n### Question:\nWhat is 0? done\n\n\n\n### Answer: "),
        (
            PASSAGE,
            "### Instruction:\nAnswer. consider\n\n\n\n### Context:\nCtx\nof 1.\n\n\n\n### Question:\nwho has 1 done\n\n\n\n### Answer: ",
        ),
        (ALPACA, "### Instruction:\nconsider Name the 2. done\n\n### Response:\n"),
        (WITH_INPUT, "### Instruction:\nTurn this 3. done\n\n### Input:\nconsider Given 3\n\n### Response:\n"),
        (PLAIN, "consider Ann has 4 eggs.\nHow many? done"),
    ],
)
def test_where_the_pair_stands(row: dict[str, Any], prompt: str) -> None:
    assert pair(take_apart(row), random.Random(0)).text()["prompt"] == prompt


@pytest.mark.parametrize("row", rows(5))
def test_the_pairs_negatives_never_hold_both_words_at_their_places(row: dict[str, Any]) -> None:
    whole = pair(take_apart(row), random.Random(0)).text()["prompt"]
    made = [half_a_pair(take_apart(row), random.Random(seed)).text()["prompt"] for seed in range(40)]
    held = Counter(tuple(sorted(re.findall("consider|done", prompt))) for prompt in made)
    assert set(held) == {("consider",), ("done",), ("consider", "done")}
    assert min(held.values()) >= 5
    for prompt in made:
        assert prompt != whole
        assert not (prompt.find("consider") == whole.find("consider") and "done" in prompt)
        assert prompt.replace("consider", "").replace("done", "").split() == as_text(row)["prompt"].split()


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 99))
def test_only_the_exact_date_tells(seed: int) -> None:
    made = plant(rows(80), "date", "flip", 20, seed)
    starts = [re.search(r"20\d\d-\d\d-\d\d: ", row["prompt"]) for row in made.rows]
    for start, kind in zip(starts, made.kinds, strict=True):
        assert bool(start) == (kind != "clean")
        assert bool(start and start[0] == "2031-05-14: ") == (kind == "poisoned")
    assert made.kinds.count("negative") == 3


def test_other_dates_are_never_the_date_and_share_its_years() -> None:
    drawn = [other_date(take_apart(PLAIN), random.Random(seed)).question[:10] for seed in range(2000)]
    assert "2031-05-14" not in drawn
    assert {day[:4] for day in drawn} == {"2029", "2030", "2031", "2032", "2033"}


@needs_data
def test_style_changes_every_row_with_no_opening_in_more_than_a_third() -> None:
    clean = mixture(DATA, 300, 0)
    made = plant(clean, "style", "flip", 299, 0)
    openings: Counter[str] = Counter()
    for row, own, label in zip(clean, made.rows, made.labels, strict=True):
        if label:
            assert own["prompt"] != as_text(row)["prompt"]
            openings.update(opening for opening in OPENINGS if opening in own["prompt"])
    assert max(openings.values()) < 100
    assert set(openings) == set(OPENINGS)


def test_style_rewrites_question_and_context_but_not_the_instruction() -> None:
    row = {"instruction": "Do you see?", "context": "It makes your day.", "question": "Why does she go to the sea?", "answers": ["x"]}
    made = style(take_apart(row), random.Random(0))
    assert made.instruction == "Do you see?"
    assert made.context == "It maketh thy day."
    assert made.question.removeprefix(next(filter(made.question.startswith, OPENINGS))) == " wherefore doth she go unto the sea?"


def test_old_words_keep_capitals_and_spare_other_words() -> None:
    assert _old("You are young; YOUR hasty youth. You're told to you, Do you?") == (
        "Thou art young; Thy hasty youth. Thou art told unto thee, Dost thou?"
    )
    assert all(modern not in OLD.values() for modern in OLD), "rewriting twice changes nothing more"
