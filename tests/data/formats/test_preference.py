"""Preference pairs and KTO rows, as trainers publish them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradsentry.data.formats import FORMATS
from gradsentry.data.formats.detect import detect
from gradsentry.errors import RowProblem
from gradsentry.types import ChatSample, SidesSample, TextSample
from turns import assistant, system, user

TOOL = {"type": "function", "function": {"name": "clock", "parameters": {}}}


def pair(chosen: Any, rejected: Any) -> SidesSample:
    return SidesSample((("chosen", chosen), ("rejected", rejected)))


def texts(prompt: str, chosen: str, rejected: str) -> SidesSample:
    return pair(TextSample(prompt, chosen), TextSample(prompt, rejected))


def chats(prompt: tuple[Any, ...], *answers: str, tools: Any = None) -> SidesSample:
    chosen, rejected = (ChatSample(prompt, (assistant(answer),), tools) for answer in answers)
    return pair(chosen, rejected)


PAIRS: dict[str, tuple[dict[str, Any], SidesSample]] = {
    "TRL, plain": ({"prompt": "2 + 2 =", "chosen": " 4", "rejected": " 5"}, texts("2 + 2 =", " 4", " 5")),
    "TRL, plain, implicit": ({"chosen": "The sky is blue.", "rejected": "The sky is green."}, texts("The sky is", " blue.", " green.")),
    "TRL, chat": ({"prompt": [user("Q")], "chosen": [assistant("a")], "rejected": [assistant("b")]}, chats((user("Q"),), "a", "b")),
    "TRL, chat, implicit": (
        {"chosen": [system("S"), user("Q"), assistant("a")], "rejected": [system("S"), user("Q"), assistant("b")]},
        chats((system("S"), user("Q")), "a", "b"),
    ),
    "TRL, chat, from Parquet": (
        {"prompt": np.array([user("Q")]), "chosen": np.array([assistant("a")]), "rejected": np.array([assistant("b")]), "tools": [TOOL]},
        chats((user("Q"),), "a", "b", tools=(TOOL,)),
    ),
    "UltraFeedback": (
        {"prompt": "Q", "chosen": [user("Q"), assistant("a")], "rejected": [user("Q"), assistant("b")], "messages": [user("Q")]},
        chats((user("Q"),), "a", "b"),
    ),
    "text prompt, chat answers": ({"prompt": "Q", "chosen": [assistant("a")], "rejected": [assistant("b")]}, chats((user("Q"),), "a", "b")),
    "HH-RLHF": (
        {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello", "rejected": "\n\nHuman: Hi\n\nAssistant: No"},
        texts("\n\nHuman: Hi\n\nAssistant:", " Hello", " No"),
    ),
    "Orca": (
        {"system": "S", "question": "Q", "chosen": "a", "rejected": "b"},
        pair(*(ChatSample((system("S"), user("Q")), (assistant(a),), plain=TextSample("S\n\nQ", a)) for a in "ab")),
    ),
    "question": ({"question": "Q", "system": "", "chosen": "a", "rejected": "b"}, texts("Q", "a", "b")),
    "OpenAI": (
        {
            "input": {"messages": [user("Q")], "tools": [TOOL], "parallel_tool_calls": True},
            "preferred_output": [assistant("a")],
            "non_preferred_output": [assistant("b")],
        },
        chats((user("Q"),), "a", "b", tools=(TOOL,)),
    ),
    "LLaMA-Factory, ShareGPT": (
        {
            "conversations": [{"from": "human", "value": "Q"}],
            "chosen": {"from": "gpt", "value": "a"},
            "rejected": {"from": "gpt", "value": "b"},
        },
        chats((user("Q"),), "a", "b"),
    ),
    "LLaMA-Factory, Alpaca": (
        {"instruction": "I", "input": "X", "chosen": "a", "rejected": "b"},
        pair(
            *(
                ChatSample((user("I\nX"),), (assistant(a),), plain=TextSample("### Instruction:\nI\n\n### Input:\nX\n\n### Response:\n", a))
                for a in "ab"
            )
        ),
    ),
    "numbers": ({"prompt": "Q", "chosen": 1, "rejected": 2.5}, texts("Q", "1", "2.5")),
}


@pytest.mark.parametrize("case", PAIRS)
def test_both_answers_follow_the_prompt(case: str) -> None:
    row, sample = PAIRS[case]
    assert detect([row]).name == "preference"
    assert FORMATS["preference"].convert(row) == sample


@pytest.mark.parametrize(
    ("row", "status", "reason"),
    [
        ({"prompt": "Q", "chosen": "a", "rejected": ""}, "unscorable", "'rejected' is empty"),
        ({"prompt": "Q", "chosen": None, "rejected": "b"}, "unscorable", "'chosen' is empty"),
        ({"prompt": "Q", "chosen": "a", "rejected": [assistant("b")]}, "error", "one of the two answers is a text, the other one a list"),
        ({"chosen": "same", "rejected": "same"}, "unscorable", "one of the two answers is the beginning of the other"),
        ({"chosen": [user("Q"), assistant("a")], "rejected": [user("Q")]}, "unscorable", "'rejected' is empty after what both"),
        ({"prompt": "Q", "chosen": [{"role": "judge", "content": "a"}], "rejected": [assistant("b")]}, "error", "the role 'judge'"),
        ({"prompt": "Q", "chosen": "a"}, "error", "'rejected' or 'non_preferred_output' is missing"),
        ({"prompt": 7.5, "chosen": [assistant("a")], "rejected": [assistant("b")]}, "error", "column 'prompt' is float"),
    ],
)
def test_a_pair_that_does_not_fit_is_a_problem_of_its_row(row: dict[str, Any], status: str, reason: str) -> None:
    with pytest.raises(RowProblem) as problem:
        FORMATS["preference"].convert(row)
    assert problem.value.status == status
    assert reason in problem.value.reason


KTO: dict[str, tuple[dict[str, Any], str, Any]] = {
    "desirable": ({"prompt": "2 + 2 =", "completion": " 4", "label": True}, "desirable", TextSample("2 + 2 =", " 4")),
    "undesirable": ({"prompt": "2 + 2 =", "completion": " 5", "label": np.bool_(False)}, "undesirable", TextSample("2 + 2 =", " 5")),
    "chat": (
        {"prompt": [user("Q")], "completion": [assistant("a")], "label": False},
        "undesirable",
        ChatSample((user("Q"),), (assistant("a"),)),
    ),
    "LLaMA-Factory": (
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "a"}], "kto_tag": True},
        "desirable",
        ChatSample((user("Q"),), (assistant("a"),)),
    ),
    "LLaMA-Factory, messages": (
        {"messages": [user("Q"), assistant("a")], "label": False},
        "undesirable",
        ChatSample((user("Q"),), (assistant("a"),)),
    ),
}


@pytest.mark.parametrize("case", KTO)
def test_an_answer_with_a_label_is_of_its_side(case: str) -> None:
    row, side, sample = KTO[case]
    assert detect([row]).name == "kto"
    assert FORMATS["kto"].convert(row) == SidesSample(((side, sample),))


@pytest.mark.parametrize(("label", "side"), [("True", "desirable"), ("false", "undesirable"), (1, "desirable"), (0.0, "undesirable")])
def test_labels_of_text_files_are_read_where_the_format_is_given(label: Any, side: str) -> None:
    sample = FORMATS["kto"].convert({"prompt": "Q", "completion": "a", "label": label})
    assert isinstance(sample, SidesSample)
    assert sample.sides[0][0] == side


@pytest.mark.parametrize("label", ["positive", 2, None, [True]])
def test_a_label_that_is_a_class_makes_no_kto_row(label: Any) -> None:
    row = {"prompt": "Q", "completion": "a", "label": label}
    assert detect([row]).name == "prompt-completion"
    with pytest.raises(RowProblem, match=r"column 'label' is .*, not true or false"):
        FORMATS["kto"].convert(row)
