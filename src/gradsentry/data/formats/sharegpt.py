"""A conversation under `conversations`, with from/value (ShareGPT) or role/content."""

from __future__ import annotations

from gradsentry.data import fields
from gradsentry.data.formats.base import Format
from gradsentry.errors import RowProblem
from gradsentry.types import Row, Sample

ROLES = {
    "human": "user", "user": "user",
    "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "function_call": "assistant",
    "system": "system",
    "observation": "tool", "tool": "tool", "function_response": "tool",
}  # fmt: skip
"""ShareGPT's roles, with the chat template's role for each."""


def read(row: Row) -> Sample:
    """The conversation with the chat template's roles, split before its last assistant turn; `system` becomes its first turn."""
    turns = []
    for item in fields.list_of("messages", *fields.required(row, "conversations")):
        keys = ("from", "value") if isinstance(item, dict) and item.get("from") is not None else ("role", "content")
        turn = fields.message(item, "conversations", *keys)
        if turn["role"] not in ROLES:
            raise RowProblem("error", f"column 'conversations' has the role {turn['role']!r}; known are {', '.join(ROLES)}")
        turns.append({**turn, "role": ROLES[turn["role"]]})
    if system := fields.text(*fields.optional(row, "system")):
        turns.insert(0, {"role": "system", "content": system})
    return fields.split_at_answer(tuple(turns), "conversations", fields.tools(row))


FORMAT = Format(
    name="sharegpt", columns=(("conversations",),), optional=("system", "tools"), read=read, supervised="gpt turns", loss_on="assistant"
)
