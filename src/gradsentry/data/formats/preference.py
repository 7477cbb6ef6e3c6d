"""Preference pairs: a prompt with a chosen and a rejected answer, as TRL (DPO, ORPO), OpenAI and LLaMA-Factory write them."""

from __future__ import annotations

from typing import Any

from gradsentry.data import fields
from gradsentry.data.formats import alpaca, sharegpt
from gradsentry.data.formats.base import Format
from gradsentry.errors import RowProblem
from gradsentry.types import ChatSample, OneAnswer, Row, Sample, SidesSample, TextSample

CHOSEN, REJECTED = ("chosen", "preferred_output"), ("rejected", "non_preferred_output")


def read(row: Row) -> Sample:
    """The prompt with each of the two answers.

    A row without a prompt column has an implicit prompt: what both answers begin with.
    """
    answers = {"chosen": fields.required(row, *CHOSEN), "rejected": fields.required(row, *REJECTED)}
    for value, column in answers.values():
        if fields.is_empty(value):
            raise RowProblem("unscorable", f"{column!r} is empty: no supervised token")
    chat = {side: _turns(value, column) for side, (value, column) in answers.items() if _is_chat(value)}
    if chat and len(chat) < len(answers):
        raise RowProblem("error", "one of the two answers is a text, the other one a list of messages")
    return SidesSample(tuple(_with_turns(row, chat).items() if chat else _with_texts(row, answers).items()))


def _with_texts(row: Row, answers: dict[str, tuple[Any, str]]) -> dict[str, OneAnswer]:
    texts = {side: fields.supervised_text(*answer) for side, answer in answers.items()}
    if not fields.is_empty(row.get("instruction")):
        return {side: alpaca.read({**row, "output": text}) for side, text in texts.items()}
    value, column = fields.optional(row, "prompt", "question", "input", "conversations")
    if value is None:
        prompt, ends = _shared_text(*texts.values())
        return {side: TextSample(prompt, end) for side, end in zip(texts, ends, strict=True)}
    system = fields.text(*fields.optional(row, *fields.SYSTEM))
    if not isinstance(value, str) or system:
        turns, tools = _prompt(value, column, row)
        plain = f"{system}\n\n{value}" if isinstance(value, str) else None
        return {
            side: ChatSample(turns, ({"role": "assistant", "content": text},), tools, None if plain is None else TextSample(plain, text))
            for side, text in texts.items()
        }
    return {side: TextSample(fields.text(value, column), text) for side, text in texts.items()}


def _with_turns(row: Row, answers: dict[str, tuple[Row, ...]]) -> dict[str, OneAnswer]:
    value, column = fields.optional(row, "prompt", "question", "instruction", "input", "conversations")
    whole = any(turn["role"] == "user" for turns in answers.values() for turn in turns[:1]) or all(
        turns[0]["role"] == "system" for turns in answers.values()
    )
    if value is None or (whole and isinstance(value, str)):  # as UltraFeedback has it: conversations, and their first question again
        first, second = answers.values()
        shared = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second)))
        prompt, tools = first[:shared], fields.tools(row)
        answers = {side: turns[shared:] for side, turns in answers.items()}
    else:
        prompt, tools = _prompt(value, column, row)
    for side, turns in answers.items():
        if not any(map(fields.has_content, turns)):
            raise RowProblem("unscorable", f"{side!r} is empty after what both answers share: no supervised token")
    return {side: ChatSample(prompt, turns, tools) for side, turns in answers.items()}


def _is_chat(value: Any) -> bool:
    return isinstance(fields.array_to_list(value), list | tuple | dict)


def _turns(value: Any, column: str) -> tuple[Row, ...]:
    """An answer of messages: a list of them, or one alone (LLaMA-Factory)."""
    return sharegpt.turns([value] if isinstance(value, dict) else value, column)


def _prompt(value: Any, column: str, row: Row) -> tuple[tuple[Row, ...], tuple[Any, ...] | None]:
    """The turns of a prompt and its tools, as a text, a list of messages, or OpenAI's object of both."""
    tools = fields.tools(row)
    if isinstance(value, dict) and "messages" in value:
        value, tools = value["messages"], fields.tools(value) or tools
    turns = ({"role": "user", "content": fields.text(value, column)},) if isinstance(value, str) else sharegpt.turns(value, column)
    return sharegpt.with_system(turns, row), tools


def _shared_text(one: str, other: str) -> tuple[str, tuple[str, str]]:
    """What two texts begin with, without a space at its end, and their rests: the rule of TRL's `extract_prompt`."""
    end = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    if end == len(one) or end == len(other):
        raise RowProblem("unscorable", "one of the two answers is the beginning of the other: no supervised token")
    end -= one[:end].endswith(" ")
    return one[:end], (one[end:], other[end:])


FORMAT = Format(
    name="preference",
    columns=(CHOSEN, REJECTED),
    optional=("prompt", "question", "instruction", "input", "context", "conversations", "history", "tools", *fields.SYSTEM),
    read=read,
    supervised="chosen and rejected, each by itself",
    sides=("chosen", "rejected"),
)
