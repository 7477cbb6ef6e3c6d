"""Everything that can be wrong with a row, and the problem that is reported."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradsentry.data.formats import FORMATS
from gradsentry.data.formats.detect import to_sample
from gradsentry.errors import RowProblem
from turns import HUGE, NAN, UNREAD, assistant, user

UNREADABLE = "column '{}': a value cannot be read: 'utf-8' codec can't decode; mend or remove the row"
NOTHING_SAID: list[dict[str, Any]] = [{}, {"tool_calls": []}, {"weight": 1}, {"tool_calls": np.array([])}, {"reasoning_content": ""}]
DIGITS = "it holds an integer with too many digits"
LONE = "half \ud83d"
BAD: list[tuple[str, Any, str, str]] = [
    ("prompt-completion", {"prompt": "a", "completion": ""}, "unscorable", "'completion' is empty: no supervised token"),
    ("prompt-completion", {"prompt": "a", "completion": None}, "unscorable", "'completion' is empty"),
    ("prompt-completion", {"prompt": [user("a")], "completion": [assistant("")]}, "unscorable", "'completion' is empty"),
    *(
        ("prompt-completion", {"prompt": prompt, "completion": nothing}, "unscorable", "'completion' is empty: no supervised token")
        for prompt in ([user("a")], "a")
        for nothing in ([], (), "", None, NAN, np.array([]))
    ),
    *(
        ("prompt-completion", {"prompt": [user("a")], "completion": [assistant("") | rest]}, "unscorable", "'completion' is empty")
        for rest in NOTHING_SAID
    ),
    ("prompt-completion", {"prompt": "a", "completion": HUGE}, "error", DIGITS),
    ("prompt-completion", {"prompt": UNREAD, "completion": "b"}, "error", UNREADABLE.format("prompt")),
    ("prompt-completion", {"prompt": "a", "completion": UNREAD}, "error", UNREADABLE.format("completion")),
    ("prompt-completion", {"prompt": [user("a")], "completion": UNREAD}, "error", UNREADABLE.format("completion")),
    ("prompt-completion", {"prompt": "a", "answer": "b"}, "error", "column 'completion' is missing; the row has 'prompt', 'answer'"),
    ("prompt-completion", {"prompt": "a", "completion": {"b": 1}}, "error", "column 'completion' is dict, not text"),
    ("prompt-completion", {"prompt": True, "completion": "b"}, "error", "column 'prompt' is bool, not text"),
    ("prompt-completion", {"prompt": b"a", "completion": "b"}, "error", "column 'prompt' is bytes, not text"),
    ("prompt-completion", {"prompt": LONE, "completion": "b"}, "error", "'prompt' is not valid Unicode: surrogates not allowed at 5"),
    ("prompt-completion", {"prompt": "a", "completion": LONE}, "error", "'completion' is not valid Unicode"),
    ("prompt-completion", {"prompt": "a", "completion": [assistant("b")]}, "error", "column 'prompt' is str, not a list of messages"),
    ("messages", {"messages": []}, "unscorable", "'messages' has no assistant turn"),
    ("messages", {"messages": [user("Q")]}, "unscorable", "'messages' has no assistant turn"),
    ("messages", {"messages": [user("Q"), assistant("")]}, "unscorable", "every assistant turn of 'messages' is empty"),
    *(
        ("messages", {"messages": [user("Q"), assistant("") | rest]}, "unscorable", "every assistant turn of 'messages' is empty")
        for rest in NOTHING_SAID
    ),
    (
        "messages",
        {"messages": [user("Q"), assistant("") | {"tool_calls": [{"n": HUGE}]}]},
        "error",
        DIGITS,
    ),
    ("messages", {"messages": [user("Q"), assistant("A")], "tools": [HUGE]}, "error", DIGITS),
    ("messages", {"messages": [HUGE]}, "error", DIGITS),
    ("messages", {"messages": UNREAD}, "error", UNREADABLE.format("messages")),
    ("messages", {"messages": [user("Q"), assistant("A")], "tools": UNREAD}, "error", UNREADABLE.format("tools")),
    ("messages", {"messages": "Q"}, "error", "column 'messages' is str, not a list of messages"),
    ("messages", {"messages": None}, "error", "column 'messages' is NoneType, not a list of messages"),
    ("messages", {"messages": ["Q"]}, "error", "holds 'Q', not a message with 'role'"),
    ("messages", {"messages": [{"content": "Q"}]}, "error", "not a message with 'role'"),
    ("messages", {"messages": [user(LONE), assistant("A")]}, "error", "not valid Unicode"),
    ("messages", {"messages": [{"role": "user", "content": [{"type": "image"}]}, assistant("A")]}, "error", "parts that are not text"),
    ("messages", {"messages": [user("Q"), assistant("A")], "tools": 5}, "error", "column 'tools' is int, not a list of tools"),
    ("messages", {"messages": [user("Q"), assistant("A")], "tools": "clock"}, "error", "column 'tools' is text that is not JSON"),
    ("messages", {"messages": [user("Q"), assistant("A")], "tools": '{"a": 1}'}, "error", "column 'tools' is dict, not a list of tools"),
    ("messages", {"messages": [user("Q"), assistant("A")], "tools": "[" * 100_000}, "error", "what it holds is nested too deeply"),
    ("sharegpt", {"conversations": [{"from": "alien", "value": "Q"}]}, "error", "has the role 'alien'; known are human, user, gpt"),
    ("sharegpt", {"conversations": [{"from": "human", "value": "Q"}]}, "unscorable", "'conversations' has no assistant turn"),
    ("sharegpt", {"conversations": {"from": "human"}}, "error", "column 'conversations' is dict, not a list of messages"),
    ("sharegpt", {"conversations": [{"value": "Q"}]}, "error", "not a message with 'role'"),
    ("alpaca", {"instruction": "a", "output": ""}, "unscorable", "'output' is empty"),
    ("alpaca", {"instruction": "a", "response": ""}, "unscorable", "'response' is empty"),
    ("alpaca", {"instruction": "a", "output": "", "response": {"b": 1}}, "error", "column 'response' is dict, not text"),
    ("alpaca", {"instruction": "a", "input": "", "context": ["b"], "output": "c"}, "error", "column 'context' is list, not text"),
    ("alpaca", {"instruction": "a", "output": "c", "system": UNREAD}, "error", UNREADABLE.format("system")),
    ("alpaca", {"instruction": "a", "output": "c", "context": UNREAD}, "error", UNREADABLE.format("context")),
    ("alpaca", {"instruction": "a", "output": "b", "history": ["xy"]}, "error", "'history' holds something else than"),
    ("alpaca", {"instruction": "a", "output": "b", "history": [["x"]]}, "error", "'history' holds something else than"),
    ("alpaca", {"instruction": "a", "output": "b", "history": 5}, "error", "column 'history' is int, not a list of"),
    ("qa", {"question": "Q", "answers": []}, "unscorable", "'answers' is empty"),
    ("qa", {"question": "Q", "answers": {"text": [], "answer_start": []}}, "unscorable", "'answers' is empty"),
    ("qa", {"question": "Q", "answers": [["a"]]}, "error", "column 'answers' is list, not text"),
    ("qa", {"question": "Q", "answers": {"a": 1}}, "error", "column 'answers' is dict, not text"),
    ("qa", {"question": "Q", "answers": None, "answer": [["a"]]}, "error", "column 'answer' is list, not text"),
    ("qa", {"question": "Q", "answers": UNREAD, "answer": "a"}, "error", UNREADABLE.format("answers")),
    ("qa", {"answer": "a"}, "error", "column 'question' is missing"),
    ("text", {"text": ""}, "unscorable", "'text' is empty"),
    ("text", {"text": ["a"]}, "error", "column 'text' is list, not text"),
    ("text", {}, "error", "column 'text' is missing; the row has no columns"),
    ("tokens", {"input_ids": [1, 2], "labels": [1]}, "error", "2 input_ids but 1 labels"),
    ("tokens", {"input_ids": [1.0], "labels": [1]}, "error", "something else than whole numbers"),
    ("tokens", {"input_ids": [True], "labels": [1]}, "error", "something else than whole numbers"),
    ("tokens", {"input_ids": np.array([1.0]), "labels": [1]}, "error", "something else than whole numbers"),
    ("tokens", {"input_ids": [HUGE], "labels": [HUGE]}, "error", "something else than whole numbers of at most 64 bits"),
    ("tokens", {"input_ids": UNREAD, "labels": [1]}, "error", UNREADABLE.format("input_ids")),
    *((name, "the prompt and completion", "error", "it is a str, not a mapping from column names to values") for name in FORMATS),
    ("tokens", {"input_ids": None, "labels": [1]}, "error", "column 'input_ids' is NoneType, not a list of token ids"),
    ("tokens", {"input_ids": [1], "labels": 5}, "error", "column 'labels' is int, not a list of token ids"),
    ("tokens", {"input_ids": "1 2", "labels": [1, 2]}, "error", "column 'input_ids' is str, not a list of token ids"),
]


@pytest.mark.parametrize(("name", "row", "status", "reason"), BAD)
def test_a_bad_row_is_reported_with_status_and_column(name: str, row: Any, status: str, reason: str) -> None:
    with pytest.raises(RowProblem) as caught:
        FORMATS[name].convert(row)
    assert caught.value.status == status
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    ("name", "row", "other"),
    [
        ("prompt-completion", {"messages": [user("Q"), assistant("A")]}, "messages"),
        ("prompt-completion", {"prompt": None, "completion": None, "messages": [user("Q"), assistant("A")]}, "messages"),
        ("messages", {"messages": None, "prompt": "p", "completion": "c"}, "prompt-completion"),
        ("messages", {"instruction": "i", "output": "o"}, "alpaca"),
        ("text", {"text": "", "question": "q", "answer": "a"}, "qa"),
    ],
)
def test_the_problem_of_a_row_in_another_format_names_that_format_and_what_to_do(name: str, row: dict[str, Any], other: str) -> None:
    with pytest.raises(RowProblem, match=rf"; it looks like {other}: .*--format {other}"):
        to_sample(row, FORMATS[name], {})


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("prompt-completion", {"prompt": "p", "completion": ["c"], "text": "t"}),  # its own format, with a broken completion
        ("prompt-completion", {"prompt": "p", "messages": None}),
        ("prompt-completion", {"prompt": "p", "answer": "a"}),
    ],
)
def test_the_problem_of_any_other_row_names_no_format(name: str, row: dict[str, Any]) -> None:
    with pytest.raises(RowProblem) as caught:
        to_sample(row, FORMATS[name], {})
    assert "looks like" not in caught.value.reason
