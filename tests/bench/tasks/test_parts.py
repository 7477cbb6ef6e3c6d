"""Rows as text, taken apart, and their right answers."""

from __future__ import annotations

from typing import Any

import pytest

from clean_sets import EXPECTED
from gradsentry.bench.tasks import as_text, references, take_apart
from gradsentry.errors import DataError


@pytest.mark.parametrize(
    ("row", "prompt", "completion"),
    [
        (
            EXPECTED["nq"][0] | {"instruction": "Answer."},
            "### Instruction:\nAnswer.\n\n\n\n### Context:\nPlaces\nIt is here.\n\n\n\n### Question:\nwhere\n\n\n\n### Answer: ",
            "here; there",
        ),
        (EXPECTED["gsm8k"][0], "1+1?\u2028", "2\n#### 2"),
        (EXPECTED["dolly"][0], "### Instruction:\nSay\n\n### Response:\n", "So"),
        (EXPECTED["self_instruct"][0], "### Instruction:\nTurn\n\n### Input:\na\n\n### Response:\n", "b"),
    ],
)
def test_a_row_as_text(row: dict[str, Any], prompt: str, completion: str) -> None:
    assert as_text(row) == {"prompt": prompt, "completion": completion}
    assert as_text(as_text(row)) == as_text(row)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "messages is not plain text"),
        ({"input_ids": [1], "labels": [1]}, "tokens is not plain text"),
        ({"prompt": "a", "completion": ""}, "'completion' is empty"),
        ({"a": 1}, "cannot tell the format"),
    ],
)
def test_a_row_without_a_plain_text_is_refused(row: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        as_text(row)


@pytest.mark.parametrize(
    "row",
    [{"instruction": "a", "output": "b", "system": "c"}, {"instruction": "a", "context": "c", "response": "b"}, {"text": "a"}],
)
def test_a_row_that_holds_more_than_the_parts_is_not_taken_apart(row: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="has no known place for a trigger"):
        take_apart(row)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (EXPECTED["nq"][0], ["here", "there"]),
        (EXPECTED["gsm8k"][0], ["2"]),
        (EXPECTED["dolly"][0], ["So"]),
        ({"prompt": "a", "completion": "b"}, ["b"]),
        ({"prompt": "a", "completion": "#### 1 of\n#### 1,000"}, ["1,000"]),
        ({"question": "a", "answers": ["#### b"]}, ["#### b"]),
    ],
)
def test_right_answers_of_a_row(row: dict[str, Any], expected: list[str]) -> None:
    assert references(row) == expected
