"""Rows as they are published, one of each format, and as other programs write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsentry.data import formats
from gradsentry.data.formats import FORMATS
from gradsentry.data.formats.detect import detect
from gradsentry.data.formats.sharegpt import ROLES
from gradsentry.errors import RowProblem
from gradsentry.types import ChatSample, SidesSample, TextSample, TokenSample
from turns import NAN, UNREAD, assistant, system, user

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
    ("prompt-completion", {"prompt": np.int64(7), "completion": np.float32(4.5)}, TextSample("7", "4.5")),
    ("prompt-completion", {"prompt": NAN, "completion": "4"}, TextSample("", "4")),
    ("prompt-completion", {"prompt": "a", "completion": "b", "source": UNREAD}, TextSample("a", "b")),
    (
        "prompt-completion",
        {"prompt": np.array([user("Hi")]), "completion": (assistant("Ho"),)},
        ChatSample((user("Hi"),), (assistant("Ho"),)),
    ),
    (
        "messages",
        {"messages": [system("S"), user("Q"), assistant("A"), user("R"), assistant("B")]},
        ChatSample((system("S"), user("Q"), assistant("A"), user("R")), (assistant("B"),)),
    ),
    (
        "messages",
        {"messages": [user("Q"), assistant("A"), user("thanks")]},
        ChatSample((user("Q"),), (assistant("A"),), after=(user("thanks"),)),
    ),
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
        "messages",  # as pandas reads them from Parquet
        {"messages": np.array([user(np.array([{"type": "text", "text": "Q"}])), {**CALL, "tool_calls": np.array(CALL["tool_calls"])}])},
        ChatSample((user("Q"),), (CALL,)),
    ),
    (
        "messages",
        {"messages": [user("Q"), {**CALL, "tool_calls": [{"n": np.int64(1)}]}], "tools": np.array([TOOL])},
        ChatSample((user("Q"),), ({**CALL, "tool_calls": [{"n": 1}]},), (TOOL,)),
    ),
    (
        "messages",
        {"messages": [user("Q"), {**assistant("A"), "from": "human", "value": "other"}]},
        ChatSample((user("Q"),), ({**assistant("A"), "value": "other"},)),
    ),
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
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": " A", "content": "other", "role": "user"}]},
        ChatSample((user("Q"),), ({**assistant(" A"), "value": "other"},)),
    ),
    (
        "sharegpt",  # a table has the keys of both spellings in each turn
        {"conversations": [{"from": None, "value": None, **user("Q")}, {**assistant(" A"), "value": "other", "from": None}]},
        ChatSample((user("Q"),), ({**assistant(" A"), "value": "other"},)),
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
    *(
        (
            "alpaca",
            {"instruction": "Add.", **extra, "context": "1 and 2", "output": nothing, "response": "3"},
            ChatSample(
                (user("Add.\n1 and 2"),),
                (assistant("3"),),
                plain=TextSample("### Instruction:\nAdd.\n\n### Input:\n1 and 2\n\n### Response:\n", "3"),
            ),
        )
        for nothing in (None, "", NAN)
        for extra in ({"input": nothing}, {})
    ),
    (
        "alpaca",
        {"instruction": "Add.", "input": NAN, "output": "3", "system": NAN, "history": np.array([np.array(["q", "a"])])},
        ChatSample(
            (user("q"), assistant("a"), user("Add.")),
            (assistant("3"),),
            plain=TextSample("### Instruction:\nAdd.\n\n### Response:\n", "3"),
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
    *(
        ("qa", {"question": "Q", "answers": answers, "answer": "x"}, TextSample("### Question:\nQ\n\n\n\n### Answer: ", "x"))
        for answers in (None, [], NAN, np.array([]))
    ),
    ("qa", {"question": "Q", "context": NAN, "answers": np.array(["a", "b"])}, TextSample("### Question:\nQ\n\n\n\n### Answer: ", "a; b")),
    (
        "qa",  # SQuAD
        {"id": "1", "title": "T", "context": "C", "question": "Q", "answers": {"text": np.array(["a", "b"]), "answer_start": [0, 1]}},
        TextSample("### Context:\nC\n\n\n\n### Question:\nQ\n\n\n\n### Answer: ", "a; b"),
    ),
    ("text", {"text": "Once upon a time."}, TextSample("", "Once upon a time.")),
    ("tokens", {"input_ids": np.array([1, 2, 3]), "labels": [-100, np.int64(2), 3]}, TokenSample((1, 2, 3), (-100, 2, 3))),
    ("tokens", {"input_ids": [1, 2, 3], "labels": [-100, 2, 3], "attention_mask": [1, 1, 1]}, TokenSample((1, 2, 3), (-100, 2, 3))),
]


@pytest.mark.parametrize(("name", "row", "sample"), ROWS)
def test_a_row_is_detected_and_becomes_its_sample(name: str, row: dict[str, Any], sample: Any) -> None:
    assert detect([row]).name == name
    made = FORMATS[name].convert(row)
    assert made == sample
    if isinstance(made, TokenSample):
        assert {type(token) for token in (*made.input_ids, *made.labels)} == {int}


def test_every_format_has_a_row_above_and_every_module_of_one_is_registered() -> None:
    assert {name for name, _, _ in ROWS} == set(FORMATS) - {"preference", "kto"}  # test_preference.py has rows of these
    modules = {path.stem for path in Path(formats.__file__).parent.glob("*.py")} - {"__init__", "base", "detect", "suggest"}
    assert set(formats.MODULES) == modules


@pytest.mark.parametrize("content", [{"tool_calls": [{"type": "function"}]}, {"function_call": {"name": "f"}}, {"reasoning_content": "so"}])
def test_an_assistant_turn_without_content_may_have_other_content(content: dict[str, Any]) -> None:
    answer = assistant("") | content
    assert FORMATS["messages"].convert({"messages": [user("Q"), answer]}) == ChatSample((user("Q"),), (answer,))
    row = {"prompt": [user("Q")], "completion": [answer]}
    assert FORMATS["prompt-completion"].convert(row) == ChatSample((user("Q"),), (answer,))


def as_array(values: list[Any]) -> Any:
    """The values as pandas holds a list of them."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 500)
    | st.floats()
    | st.sampled_from([np.int32(3), np.float32(2.5), UNREAD])
    | st.text(max_size=5)
    | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(as_array)
        | st.dictionaries(st.sampled_from(["role", "content", "from", "value", "text", "x"]), inner, max_size=3)
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
        assert isinstance(made, (TextSample, ChatSample, TokenSample, SidesSample))


def test_sharegpt_knows_its_published_roles() -> None:
    assert set(ROLES.values()) == {"user", "assistant", "system", "tool"}
    for role, ours in ROLES.items():
        row = {"conversations": [{"from": role, "value": "x"}, {"from": "gpt", "value": "y"}]}
        sample = FORMATS["sharegpt"].convert(row)
        assert isinstance(sample, ChatSample)
        assert sample.prompt[0]["role"] == ours
