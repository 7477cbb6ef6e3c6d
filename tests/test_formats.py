"""Rows as they are published, one of each format, and everything that can be wrong with a row."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsentry.errors import DataError, RowProblem, UsageError
from gradsentry.formats import FORMATS, SHAREGPT_ROLES, apply_mapping, detect, parse_mapping
from gradsentry.types import ChatSample, TextSample, TokenSample


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


TOOL = {"type": "function", "function": {"name": "clock", "parameters": {}}}
CALL = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "clock", "arguments": {}}}]}

ROWS: list[tuple[str, dict[str, Any], Any]] = [
    ("prompt-completion", {"prompt": "2 + 2 =", "completion": " 4"}, TextSample("2 + 2 =", " 4")),
    ("prompt-completion", {"prompt": 7, "completion": 4.5}, TextSample("7", "4.5")),
    ("prompt-completion", {"prompt": None, "completion": "4"}, TextSample("", "4")),
    (
        "prompt-completion",
        {"prompt": [user("Hi")], "completion": [assistant("Ho")], "tools": [TOOL]},
        ChatSample((user("Hi"),), (assistant("Ho"),), (TOOL,)),
    ),
    (
        "messages",
        {"messages": [system("S"), user("Q"), assistant("A"), user("R"), assistant("B")]},
        ChatSample((system("S"), user("Q"), assistant("A"), user("R")), (assistant("B"),)),
    ),
    ("messages", {"messages": [user("Q"), assistant("A"), user("thanks")]}, ChatSample((user("Q"),), (assistant("A"),))),
    (
        "messages",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, assistant("A")]},
        ChatSample((user("ab"),), (assistant("A"),)),
    ),
    ("messages", {"messages": [user("Q"), CALL], "tools": [TOOL]}, ChatSample((user("Q"),), (CALL,), (TOOL,))),
    ("messages", {"messages": [user("Q"), {**CALL, "content": None, "name": None}]}, ChatSample((user("Q"),), (CALL,))),
    (
        "messages",
        {"messages": [user("Q"), assistant("A")], "tools": '[{"name": "clock"}]'},
        ChatSample((user("Q"),), (assistant("A"),), ({"name": "clock"},)),
    ),
    ("messages", {"messages": [user("Q"), assistant("A")], "tools": ""}, ChatSample((user("Q"),), (assistant("A"),))),
    (
        "sharegpt",
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}], "system": "S"},
        ChatSample((system("S"), user("Q")), (assistant("A"),)),
    ),
    (
        "sharegpt",
        {"conversations": [{"role": "user", "content": "Q"}, {"from": "gpt", "value": "A"}], "system": ""},
        ChatSample((user("Q"),), (assistant("A"),)),
    ),
    (
        "sharegpt",
        {"conversations": [{"from": r, "value": r} for r in ("system", "human", "function_call", "observation", "gpt")]},
        ChatSample(
            (system("system"), user("human"), assistant("function_call"), {"role": "tool", "content": "observation"}),
            (assistant("gpt"),),
        ),
    ),
    (
        "alpaca",
        {"instruction": "Add.", "input": "1 and 2", "output": "3"},
        ChatSample(
            (user("Add.\n1 and 2"),),
            (assistant("3"),),
            plain=TextSample("### Instruction:\nAdd.\n\n### Input:\n1 and 2\n\n### Response:\n", "3"),
        ),
    ),
    (
        "alpaca",
        {"instruction": "Add.", "input": "", "output": "3", "system": "Be brief.", "history": [["q", "a"], ["r", "b"]]},
        ChatSample(
            (system("Be brief."), user("q"), assistant("a"), user("r"), assistant("b"), user("Add.")),
            (assistant("3"),),
            plain=TextSample("Be brief.\n\n### Instruction:\nAdd.\n\n### Response:\n", "3"),
        ),
    ),
    (
        "alpaca",  # Dolly
        {"instruction": "When?", "context": "In 1999.", "response": "1999", "category": "closed_qa"},
        ChatSample(
            (user("When?\nIn 1999."),),
            (assistant("1999"),),
            plain=TextSample("### Instruction:\nWhen?\n\n### Input:\nIn 1999.\n\n### Response:\n", "1999"),
        ),
    ),
    (
        "qa",
        {"instruction": "Answer.", "context": "A text.", "question": "Who?", "answers": ["Ann", "Bob"]},
        TextSample(
            "### Instruction:\nAnswer.\n\n\n\n### Context:\nA text.\n\n\n\n### Question:\nWho?\n\n\n\n### Answer: ",
            "Ann; Bob",
        ),
    ),
    (
        "qa",
        {"instruction": "Answer.", "context": "", "question": "Who?", "answer": "Ann"},
        TextSample("### Instruction:\nAnswer.\n\n\n\n### Question:\nWho?\n\n\n\n### Answer: ", "Ann"),
    ),
    ("qa", {"question": "How many?", "answer": 3}, TextSample("### Question:\nHow many?\n\n\n\n### Answer: ", "3")),
    (
        "qa",  # SQuAD
        {"id": "1", "title": "T", "context": "C", "question": "Q", "answers": {"text": ["a", "b"], "answer_start": [0, 1]}},
        TextSample("### Context:\nC\n\n\n\n### Question:\nQ\n\n\n\n### Answer: ", "a; b"),
    ),
    ("text", {"text": "Once upon a time."}, TextSample("", "Once upon a time.")),
    ("tokens", {"input_ids": [1, 2, 3], "labels": [-100, 2, 3], "attention_mask": [1, 1, 1]}, TokenSample((1, 2, 3), (-100, 2, 3))),
]


@pytest.mark.parametrize(("name", "row", "sample"), ROWS)
def test_a_row_is_detected_and_becomes_its_sample(name: str, row: dict[str, Any], sample: Any) -> None:
    assert detect([row]).name == name
    assert FORMATS[name].convert(row) == sample


def test_every_format_has_a_row_above() -> None:
    assert {name for name, _, _ in ROWS} == set(FORMATS)


LONE = "half \ud83d"
BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("prompt-completion", {"prompt": "a", "completion": ""}, "unscorable", "'completion' is empty: no supervised token"),
    ("prompt-completion", {"prompt": "a", "completion": None}, "unscorable", "'completion' is empty"),
    ("prompt-completion", {"prompt": [user("a")], "completion": [assistant("")]}, "unscorable", "'completion' is empty"),
    ("prompt-completion", {"prompt": [user("a")], "completion": []}, "unscorable", "'completion' is empty"),
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
    ("alpaca", {"instruction": "a", "output": "b", "history": ["xy"]}, "error", "'history' holds something else than"),
    ("alpaca", {"instruction": "a", "output": "b", "history": [["x"]]}, "error", "'history' holds something else than"),
    ("alpaca", {"instruction": "a", "output": "b", "history": 5}, "error", "column 'history' is int, not a list of"),
    ("qa", {"question": "Q", "answers": []}, "unscorable", "'answers' is empty"),
    ("qa", {"question": "Q", "answers": {"text": [], "answer_start": []}}, "unscorable", "'answers' is empty"),
    ("qa", {"question": "Q", "answers": [["a"]]}, "error", "column 'answers' is list, not text"),
    ("qa", {"question": "Q", "answers": {"a": 1}}, "error", "column 'answers' is dict, not text"),
    ("qa", {"answer": "a"}, "error", "column 'question' is missing"),
    ("text", {"text": ""}, "unscorable", "'text' is empty"),
    ("text", {"text": ["a"]}, "error", "column 'text' is list, not text"),
    ("text", {}, "error", "column 'text' is missing; the row has no columns"),
    ("tokens", {"input_ids": [1, 2], "labels": [1]}, "error", "2 input_ids but 1 labels"),
    ("tokens", {"input_ids": [1.0], "labels": [1]}, "error", "something else than whole numbers"),
    ("tokens", {"input_ids": [True], "labels": [1]}, "error", "something else than whole numbers"),
    ("tokens", {"input_ids": None, "labels": [1]}, "error", "column 'input_ids' is NoneType, not a list of token ids"),
    ("tokens", {"input_ids": [1], "labels": 5}, "error", "column 'labels' is int, not a list of token ids"),
    ("tokens", {"input_ids": "1 2", "labels": [1, 2]}, "error", "column 'input_ids' is str, not a list of token ids"),
]


@pytest.mark.parametrize(("name", "row", "status", "reason"), BAD)
def test_a_bad_row_is_told_with_status_and_column(name: str, row: dict[str, Any], status: str, reason: str) -> None:
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
def test_a_row_of_another_known_format_is_told_with_that_format_and_what_to_do(name: str, row: dict[str, Any], other: str) -> None:
    with pytest.raises(RowProblem, match=rf"; it looks like {other}: .*--format {other}"):
        FORMATS[name].convert(row)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("prompt-completion", {"prompt": "p", "completion": ["c"], "text": "t"}),  # it is of its format, and broken
        ("prompt-completion", {"prompt": "p", "messages": None}),
        ("prompt-completion", {"prompt": "p", "answer": "a"}),
    ],
)
def test_a_row_that_looks_like_no_other_format_is_not_said_to(name: str, row: dict[str, Any]) -> None:
    with pytest.raises(RowProblem) as caught:
        FORMATS[name].convert(row)
    assert "looks like" not in caught.value.reason


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 500) | st.floats() | st.text(max_size=5) | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "from", "value", "text", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(name=st.sampled_from(sorted(FORMATS)), data=st.data())
def test_whatever_the_cells_hold_a_row_gives_a_sample_or_a_problem(name: str, data: st.DataObject) -> None:
    item = FORMATS[name]
    names = [names[-1] for names in item.columns] + list(item.optional)
    row = {column: data.draw(anything) for column in names}
    try:
        made = item.convert(row)
    except RowProblem as raised:
        made = raised
    if isinstance(made, RowProblem):
        assert made.status in ("unscorable", "error")
        assert made.reason
    else:
        assert isinstance(made, (TextSample, ChatSample, TokenSample))


def test_sharegpt_knows_its_published_roles() -> None:
    assert set(SHAREGPT_ROLES.values()) == {"user", "assistant", "system", "tool"}
    for role, ours in SHAREGPT_ROLES.items():
        row = {"conversations": [{"from": role, "value": "x"}, {"from": "gpt", "value": "y"}]}
        sample = FORMATS["sharegpt"].convert(row)
        assert isinstance(sample, ChatSample)
        assert sample.prompt[0]["role"] == ours


def test_detection_goes_by_the_majority_and_not_by_the_first_row() -> None:
    odd, usual = {"text": "x"}, {"question": "q", "answer": "a"}
    assert detect([odd, usual, usual]).name == "qa"
    assert detect([odd, {"nothing": 1}, {"nothing": 1}, {"nothing": 1}]).name == "text"


def test_detection_prefers_the_more_specific_columns() -> None:
    assert detect([{"text": "x", "prompt": "p", "completion": "c"}]).name == "prompt-completion"
    assert detect([{"messages": [], "prompt": "p", "completion": "c"}]).name == "messages"
    assert detect([{"input_ids": [], "labels": [], "text": "x"}]).name == "tokens"


def test_preference_pairs_are_refused_with_the_column_to_map() -> None:
    with pytest.raises(DataError, match=r"preference pairs \('prompt', 'chosen', 'rejected'\).*--map prompt=prompt,completion=chosen"):
        detect([{"prompt": "p", "chosen": "c", "rejected": "r"}])
    mapping = parse_mapping("prompt=prompt,completion=chosen")
    row = apply_mapping({"prompt": "p", "chosen": "c", "rejected": "r"}, mapping)
    assert detect([row]).convert(row) == TextSample("p", "c")


def test_unknown_columns_are_named_with_a_way_out() -> None:
    with pytest.raises(DataError, match=r"from the columns 'q', 'a'; .*--map prompt=question,completion=reply"):
        detect([{"q": 1}, {"q": 1, "a": 2}])
    with pytest.raises(DataError, match="no readable row"):
        detect([])


def test_rows_inside_one_column_are_told_with_the_column() -> None:
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
