"""Turns that a trainer does not train on, OpenAI's weight 0 and Axolotl's train false, are read and not supervised."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from gradsentry.data.formats import FORMATS
from gradsentry.data.formats.detect import detect
from gradsentry.errors import RowProblem
from gradsentry.tokens.encode import encode
from gradsentry.types import LossOn
from turns import NAN, assistant, user


def supervised(row: dict[str, Any], tokenizer: PreTrainedTokenizerFast, loss_on: LossOn = "assistant") -> str:
    """The text of the supervised tokens."""
    (ids,) = encode([detect([row]).convert(row)], tokenizer, loss_on)
    if isinstance(ids, RowProblem):
        raise ids
    return str(tokenizer.decode([label for label in ids[1] if label != -100]))


def conversation(first: dict[str, Any], last: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [user("Q"), assistant("one") | first, user("R"), assistant("two") | last]}


@pytest.mark.parametrize(
    ("first", "last", "answers"),
    [
        ({"weight": 0}, {"weight": 1}, "two"),
        ({"weight": 0}, {}, "two"),
        ({"weight": 0.0}, {"weight": None}, "two"),
        ({"train": False}, {"train": True}, "two"),
        ({"training": False}, {"weight": NAN}, "two"),
        ({}, {"weight": 0}, "one"),
        ({"weight": 0.5}, {"train": False, "weight": 1}, "one"),
        ({}, {}, "one two"),
    ],
)
def test_only_turns_that_are_trained_on_are_supervised(
    first: dict[str, Any], last: dict[str, Any], answers: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    row = conversation(first, last)
    assert supervised(row, tokenizer).replace("<|end|>\n", " ").split() == answers.split()
    assert supervised(row, tokenizer, "completion").startswith(answers.split()[-1])
    assert "Q" in supervised(row, tokenizer, "all")


def test_sharegpt_turns_have_weights_too(tokenizer: PreTrainedTokenizerFast) -> None:
    turns = [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "one", "weight": 0}, {"from": "gpt", "value": "two", "train": True}]
    assert supervised({"conversations": turns}, tokenizer).split("<|end|>")[0] == "two"


def test_a_row_without_a_turn_that_is_trained_on_is_unscorable(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(RowProblem, match="no assistant turn is trained on") as problem:
        supervised(conversation({"weight": 0}, {"train": False}), tokenizer)
    assert problem.value.status == "unscorable"


@pytest.mark.parametrize("weight", ["0", [0], {"a": 0}])
def test_a_weight_that_is_no_number_is_an_error(weight: Any) -> None:
    with pytest.raises(RowProblem, match=r"whose 'weight' is .*, not a number, true or false"):
        FORMATS["messages"].convert(conversation({"weight": weight}, {}))
