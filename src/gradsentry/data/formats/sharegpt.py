"""A conversation under `conversations`, with from/value (ShareGPT) or role/content."""

from __future__ import annotations

from typing import Any

from gradsentry.data import fields
from gradsentry.data.formats.base import Format
from gradsentry.errors import RowProblem
from gradsentry.types import OneAnswer, Row

ROLES = {
    "human": "user", "user": "user",
    "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "function_call": "assistant",
    "system": "system",
    "observation": "tool", "tool": "tool", "function_response": "tool",
}  # fmt: skip
"""ShareGPT's roles, with the chat template's role for each."""


def read(row: Row) -> OneAnswer:
    """The conversation with the chat template's roles, split before its last assistant turn; `system` becomes its first turn."""
    conversation = with_system(turns(*fields.required(row, "conversations")), row)
    return fields.split_at_answer(conversation, "conversations", fields.tools(row))


def turns(value: Any, column: str) -> tuple[dict[str, Any], ...]:
    """The messages of a cell, in either spelling, with the chat template's roles."""
    made = []
    for item in fields.list_of("messages", value, column):
        keys = ("from", "value") if isinstance(item, dict) and item.get("from") is not None else ("role", "content")
        turn = fields.message(item, column, *keys)
        if turn["role"] not in ROLES:
            raise RowProblem("error", f"column {column!r} has the role {turn['role']!r}; known are {', '.join(ROLES)}")
        made.append({**turn, "role": ROLES[turn["role"]]})
    return tuple(made)


def with_system(turns: tuple[dict[str, Any], ...], row: Row) -> tuple[dict[str, Any], ...]:
    """The turns after the row's system prompt, if it has one."""
    system = fields.text(*fields.optional(row, *fields.SYSTEM))
    return ({"role": "system", "content": system}, *turns) if system else turns


FORMAT = Format(
    name="sharegpt",
    columns=(("conversations",),),
    optional=(*fields.SYSTEM, "tools"),
    read=read,
    supervised="gpt turns",
    loss_on="assistant",
)
