"""Cells of a row -> text, lists and messages. A cell that holds something else is a problem of its row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from gradsentry.errors import RowProblem
from gradsentry.types import ChatSample, Row


def first(row: Row, *names: str) -> Any:
    """The value of the first of these columns that the row has."""
    for name in names:
        if name in row:
            return row[name]
    columns = ", ".join(map(repr, row)) or "no columns"
    raise RowProblem("error", f"column {' or '.join(map(repr, names))} is missing; the row has {columns}")


def empty(value: Any) -> bool:
    """Whether there is nothing in the cell. In a table the columns of other formats are there, with nothing in them."""
    return value is None or (isinstance(value, (str, list)) and not value)


def text(value: Any, column: str) -> str:
    """A text cell; numbers are written out, None is empty, anything else is an error."""
    if value is None:
        return ""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise RowProblem("error", f"column {column!r} is {type(value).__name__}, not text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RowProblem("error", f"column {column!r} is not valid Unicode: {error.reason} at {error.start}") from None
    return value


def completion(value: Any, column: str) -> str:
    """A text cell that has something to supervise."""
    answer = text(value, column)
    if not answer:
        raise RowProblem("unscorable", f"{column!r} is empty: no supervised token")
    return answer


def listed(value: Any, column: str, of: str) -> Sequence[Any]:
    """A list; `of` says what it should hold."""
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise RowProblem("error", f"column {column!r} is {type(value).__name__}, not a list of {of}")
    return value


def tools(row: Row) -> tuple[Any, ...] | None:
    """The row's tool schemas: a list, or the JSON text of one."""
    value = row.get("tools")
    if isinstance(value, str):
        try:
            value = json.loads(value or "[]")
        except ValueError as error:
            raise RowProblem("error", f"column 'tools' is text that is not JSON: {error}") from None
    return tuple(listed(value, "tools", "tools")) if value else None


def message(value: Any, column: str, role_key: str = "role", content_key: str = "content") -> dict[str, Any]:
    """One message as {role, content, ...}; a content of text parts is joined."""
    if not isinstance(value, dict) or not isinstance(value.get(role_key), str):
        raise RowProblem("error", f"column {column!r} holds {str(value)[:60]!r}, not a message with {role_key!r}")
    content = value.get(content_key)
    if isinstance(content, list):
        if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
            raise RowProblem("error", f"column {column!r} holds a message with parts that are not text")
        content = "".join(part["text"] for part in content)
    rest = {key: item for key, item in value.items() if key not in (role_key, content_key) and item is not None}
    return {"role": value[role_key], "content": text(content, column), **rest}


def messages(value: Any, column: str) -> tuple[dict[str, Any], ...]:
    """A list of messages."""
    return tuple(message(item, column) for item in listed(value, column, "messages"))


def split_at_answer(messages: tuple[dict[str, Any], ...], column: str, tools: tuple[Any, ...] | None) -> ChatSample:
    """The last assistant turn is the completion, what stands before it the prompt."""
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    if not answers:
        raise RowProblem("unscorable", f"{column!r} has no assistant turn: no supervised token")
    last = answers[-1]
    if not any(messages[i]["content"] or len(messages[i]) > 2 for i in answers):
        raise RowProblem("unscorable", f"every assistant turn of {column!r} is empty: no supervised token")
    return ChatSample(messages[:last], messages[last : last + 1], tools)
