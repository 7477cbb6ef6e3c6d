"""The format that is detected, the formats that `--map` selects, and the messages where none fits."""

from __future__ import annotations

from typing import Any

import pytest

from gradsentry.data.formats import FORMATS
from gradsentry.data.formats.detect import apply_mapping, detect, parse_mapping, settle
from gradsentry.errors import DataError, UsageError
from gradsentry.types import ChatSample, TextSample


def test_detection_goes_by_the_majority_and_not_by_the_first_row() -> None:
    odd, usual = {"text": "x"}, {"question": "q", "answer": "a"}
    assert detect([odd, usual, usual]).name == "qa"
    assert detect([odd, {"nothing": 1}, {"nothing": 1}, {"nothing": 1}]).name == "text"


def test_detection_prefers_the_more_specific_columns() -> None:
    assert detect([{"text": "x", "prompt": "p", "completion": "c"}]).name == "prompt-completion"
    turns = [{"role": "assistant", "content": "a"}]
    assert detect([{"messages": turns, "prompt": "p", "completion": "c"}]).name == "messages"
    assert detect([{"input_ids": [1], "labels": [1], "text": "x"}]).name == "tokens"


CHAT = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}


@pytest.mark.parametrize(
    ("rows", "name"),
    [
        ([{"messages": None, "prompt": "a", "completion": "b"}] * 3, "prompt-completion"),
        ([{"messages": [], "prompt": "a", "completion": float("nan"), "instruction": "i", "output": "o"}], "alpaca"),
        (
            [CHAT | {"instruction": None, "input": None, "output": None}] * 5
            + [{"messages": None, "instruction": "i", "input": "", "output": "o"}] * 95,
            "alpaca",
        ),
        ([{"prompt": "", "completion": "c", "text": "c"}] * 3, "prompt-completion"),  # without a prompt, and no other format for it
        ([{"prompt": None, "completion": None, "question": "q", "answer": "a"}], "qa"),
        ([{"prompt": "p", "completion": "", "text": "t"}], "text"),
        (
            [{"prompt": "p", "completion": "", "messages": []}] * 5 + [{"prompt": "p", "completion": "c", "messages": []}],
            "prompt-completion",
        ),
        ([{"prompt": "p", "completion": "", "text": ""}] * 3, "prompt-completion"),  # no answer anywhere: the columns have to do
        (["prompt and completion", {"text": "t"}, None, 5], "text"),
    ],
)
def test_detection_goes_by_what_the_rows_hold_and_not_by_the_columns_of_other_formats(rows: list[Any], name: str) -> None:
    assert detect(rows).name == name


QUESTION, ANSWER = [CHAT["messages"][0]], [CHAT["messages"][1]]


@pytest.mark.parametrize(
    ("row", "advice", "sample"),
    [
        ({"prompt": "p", "chosen": "c", "rejected": "r"}, "prompt=prompt,completion=chosen", TextSample("p", "c")),
        ({"question": "q", "chosen": "c", "rejected": "r"}, "prompt=question,completion=chosen", TextSample("q", "c")),
        ({"prompt": "", "question": "q", "chosen": "c", "rejected": "r"}, "prompt=question,completion=chosen", TextSample("q", "c")),
        (
            {"prompt": QUESTION, "chosen": ANSWER, "rejected": ANSWER},
            "prompt=prompt,completion=chosen",
            ChatSample(tuple(QUESTION), tuple(ANSWER)),
        ),
        ({"chosen": "Human: q Assistant: c", "rejected": "r"}, "text=chosen", TextSample("", "Human: q Assistant: c")),
        ({"chosen": CHAT["messages"], "rejected": []}, "messages=chosen", ChatSample(tuple(QUESTION), tuple(ANSWER))),
        ({"prompt": "q", "chosen": CHAT["messages"], "rejected": []}, "messages=chosen", ChatSample(tuple(QUESTION), tuple(ANSWER))),
    ],
)
def test_one_side_of_preference_pairs_can_be_mapped(row: dict[str, Any], advice: str, sample: Any) -> None:
    mapping = parse_mapping(advice)
    assert settle(None, mapping, [row]).convert(apply_mapping(row, mapping)) == sample


@pytest.mark.parametrize("rows", [["the prompt and completion"], [b"prompt", 5], [None]])
def test_what_is_no_row_is_refused_with_what_one_is(rows: list[Any]) -> None:
    for mapping in ({}, {"prompt": "the prompt"}):
        with pytest.raises(DataError, match=rf"row 0 is a {type(rows[0]).__name__}, not a mapping from column names to values; give rows"):
            settle(None, mapping, rows)
        assert apply_mapping(rows[0], mapping) is rows[0]


def test_unknown_columns_are_named_with_a_way_out() -> None:
    with pytest.raises(DataError, match=r"from the columns 'x', 'y'; .*--map prompt=question,completion=reply"):
        detect([{"x": 1}, {"x": 1, "y": 2}])
    with pytest.raises(DataError, match="no readable row"):
        detect([])


def test_rows_inside_one_column_are_refused_with_the_column() -> None:
    with pytest.raises(DataError, match=r"one row, whose column 'data' holds a list of objects.*alone"):
        detect([{"version": 1, "data": [{"prompt": "p", "completion": "c"}]}])


def test_a_mapping_is_parsed_with_spaces_and_equals_signs() -> None:
    assert parse_mapping("prompt=question, completion = my=reply,") == {"prompt": "question", "completion": "my=reply"}
    assert parse_mapping(None) == parse_mapping("") == {}


@pytest.mark.parametrize("spec", ["prompt", "prompt=", "=question", "nonsense=question", "prompt=a,completion"])
def test_a_mapping_that_cannot_be_is_refused_with_the_pair_and_the_columns(spec: str) -> None:
    with pytest.raises(UsageError, match="--map") as caught:
        parse_mapping(spec)
    assert repr(spec.split(",")[-1]) in str(caught.value)
    for column in ("prompt", "completion", "messages", "instruction", "question", "text", "tools", "history"):
        assert column in str(caught.value)


def test_mapped_columns_move_and_the_others_stay() -> None:
    row = {"question": "q", "reply": "r", "other": 1}
    assert apply_mapping(row, {"prompt": "question", "completion": "reply"}) == {"prompt": "q", "completion": "r", "other": 1}
    assert apply_mapping(row, {}) == row
    assert row == {"question": "q", "reply": "r", "other": 1}


def test_a_mapping_can_swap_columns_and_never_falls_back_to_the_unmapped_one() -> None:
    assert apply_mapping({"prompt": "a", "completion": "b"}, {"prompt": "completion", "completion": "prompt"}) == {
        "prompt": "b",
        "completion": "a",
    }
    assert apply_mapping({"prompt": "a", "completion": "b"}, {"prompt": "absent"}) == {"completion": "b"}


@pytest.mark.parametrize(
    ("spec", "row", "name"),
    [
        ("prompt=q,completion=reply", {"q": "1", "reply": "2", **CHAT}, "prompt-completion"),
        ("prompt=q,completion=reply", {"q": "1", "reply": "2", "conversations": "x", "text": "t"}, "prompt-completion"),
        ("completion=reply", {"prompt": "p", "reply": "2", "text": "t", **CHAT}, "prompt-completion"),
        ("context=c", {"question": "q", "answer": "a", "c": "x"}, "qa"),
        ("context=c", {"instruction": "q", "output": "a", "c": "x"}, "alpaca"),
        ("tools=functions", {"functions": [], "instruction": "i", "output": "o", **CHAT}, "messages"),
        ("text=body", {"body": "t", "prompt": "p", "completion": "c"}, "text"),
    ],
)
def test_mapped_columns_select_the_formats(spec: str, row: dict[str, Any], name: str) -> None:
    assert settle(None, parse_mapping(spec), [row]).name == name
    assert settle(name, parse_mapping(spec), [row]) is settle(name, parse_mapping(spec), []) is FORMATS[name]


def test_a_mapping_that_fits_no_format_is_refused_with_the_formats_of_each_column() -> None:
    owners = "text is a column of text, output is a column of kto and alpaca"
    for rows in ([], [{"a": "x", "b": "y", "text": "t"}]):
        with pytest.raises(UsageError, match=rf"--map text=a,output=b: no format has all of these columns; {owners}$"):
            settle(None, parse_mapping("text=a,output=b"), rows)
        with pytest.raises(UsageError, match=r"--map question=a: messages has no column question; it has messages, tools$"):
            settle("messages", parse_mapping("question=a"), rows)


def test_where_the_selected_formats_do_not_fit_the_message_names_them() -> None:
    with pytest.raises(DataError, match=r"from the columns 'a', 'text', 'prompt'; .*\(formats: preference, kto, prompt-completion\)"):
        settle(None, parse_mapping("prompt=q"), [{"q": "1", "a": "2", "text": "t"}])
