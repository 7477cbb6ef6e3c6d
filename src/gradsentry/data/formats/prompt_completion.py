"""TRL's prompt/completion: plain texts or lists of messages."""

from __future__ import annotations

from gradsentry.data import fields
from gradsentry.data.formats.base import Format
from gradsentry.errors import RowProblem
from gradsentry.types import ChatSample, OneAnswer, Row, TextSample


def read(row: Row) -> OneAnswer:
    """A text sample where both sides are texts, else a conversation."""
    prompt, completion = (fields.required(row, name)[0] for name in ("prompt", "completion"))
    if not any(isinstance(fields.array_to_list(side), (list, tuple)) for side in (prompt, completion)):
        return TextSample(fields.text(prompt, "prompt"), fields.supervised_text(completion, "completion"))
    answer = () if fields.is_empty(completion) else fields.messages(completion, "completion")
    if not any(map(fields.has_content, answer)):
        raise RowProblem("unscorable", "'completion' is empty: no supervised token")
    return ChatSample(fields.messages(prompt, "prompt"), answer, fields.tools(row))


FORMAT = Format(name="prompt-completion", columns=(("prompt",), ("completion",)), optional=("tools",), read=read, supervised="completion")
