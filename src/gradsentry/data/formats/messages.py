"""A conversation under `messages`, with `tools` where the row has them."""

from __future__ import annotations

from gradsentry.data import fields
from gradsentry.data.formats.base import Format
from gradsentry.types import OneAnswer, Row


def read(row: Row) -> OneAnswer:
    """The conversation, split before its last assistant turn."""
    return fields.split_at_answer(fields.messages(*fields.required(row, "messages")), "messages", fields.tools(row))


FORMAT = Format(
    name="messages", columns=(("messages",),), optional=("tools",), read=read, supervised="assistant turns", loss_on="assistant"
)
