"""The cells of a row: texts, lists and messages, checked. A cell that holds something else is a problem of its row (RowProblem)."""

from __future__ import annotations

import json
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gradsentry.errors import RowProblem
from gradsentry.types import ChatSample, Row

MESSAGE_KEYS = ("role", "content", "from", "value")
"""Keys of a message for its speaker and its text: OpenAI's spelling and ShareGPT's."""
SYSTEM = ("system", "system_prompt", "system_message")
"""Columns that hold a system prompt."""
WEIGHTS = ("weight", "train", "training")
"""Keys of a message that say whether a trainer trains on it: OpenAI's and Axolotl's. 0 and false: it does not."""


@dataclass(frozen=True, repr=False)
class Unreadable:
    """A cell whose value could not be read. It is a problem of the row only where the format reads its column."""

    reason: str

    def __repr__(self) -> str:
        return f"(cannot be read: {self.reason})"


def optional(row: Row, *names: str) -> tuple[Any, str]:
    """Value and name of the first of these columns that is not empty; None and the first name where all are.

    Raises:
        RowProblem: the value could not be read.
    """
    name = next((name for name in names if not is_empty(row.get(name))), None)
    if name is None:
        return None, names[0]
    if isinstance(row[name], Unreadable):
        raise RowProblem("error", f"column {name!r}: a value cannot be read: {row[name].reason}; mend or remove the row")
    return row[name], name


def required(row: Row, *names: str) -> tuple[Any, str]:
    """As `optional`, but the row must have one of the columns. Where all are empty: value and name of the first that the row has.

    Raises:
        RowProblem: the row has none of the columns, or the value could not be read.
    """
    present = [name for name in names if name in row]
    if not present:
        columns = ", ".join(map(repr, row)) or "no columns"
        raise RowProblem("error", f"column {' or '.join(map(repr, names))} is missing; the row has {columns}")
    value, name = optional(row, *present)
    return (row[name] if value is None else value), name


def is_empty(value: Any) -> bool:
    """Whether the cell holds None, NaN, or a text or list of length 0. A table fills the columns of other formats with these."""
    value = array_to_list(value)
    return _is_missing(value) or (isinstance(value, (str, list, tuple)) and not value)


def _is_missing(value: Any) -> bool:
    """Whether the value is None, or the NaN that pandas writes in its place."""
    return value is None or (isinstance(value, numbers.Real) and bool(value != value))


def array_to_list(value: Any) -> Any:
    """A NumPy or pandas array as a list; any other value unchanged."""
    return value.tolist() if hasattr(value, "tolist") and not isinstance(value, numbers.Number) else value


def _to_json_types(value: Any) -> Any:
    """The value in JSON's types, at any depth: arrays as lists, NumPy numbers as Python's."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, dict):
        return {key: _to_json_types(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json_types(item) for item in value]
    if isinstance(value, int):
        str(value)  # raises ValueError here, where it is caught, and not in a template or a message
    if isinstance(value, Unreadable):
        raise ValueError(value.reason)
    return value


def text(value: Any, column: str) -> str:
    """A text cell. Numbers are written out, None and NaN are empty texts, anything else is an error."""
    if _is_missing(value):
        return ""
    if isinstance(value, numbers.Number) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise RowProblem("error", f"column {column!r} is {type(value).__name__}, not text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RowProblem("error", f"column {column!r} is not valid Unicode: {error.reason} at {error.start}") from None
    return value


def supervised_text(value: Any, column: str) -> str:
    """A text cell that must not be empty, because the loss is on it."""
    answer = text(value, column)
    if not answer:
        raise RowProblem("unscorable", f"{column!r} is empty: no supervised token")
    return answer


def list_of(items: str, value: Any, column: str) -> Sequence[Any]:
    """A cell that holds a list or an array; `items` says in the message what it should hold."""
    value = array_to_list(value)
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise RowProblem("error", f"column {column!r} is {type(value).__name__}, not a list of {items}")
    return value


def token_ids(value: Any, column: str) -> tuple[int, ...]:
    """A list of integers of Python or NumPy, of at most 64 bits."""
    ids = list_of("token ids", value, column)
    integers = all(issubclass(kind, numbers.Integral) and kind is not bool for kind in set(map(type, ids)))  # each type once: rows are long
    if not integers or (ids and not -(2**63) <= min(ids) <= max(ids) < 2**63):
        raise RowProblem("error", f"column {column!r} holds something else than whole numbers of at most 64 bits")
    return tuple(map(int, ids))


def tools(row: Row) -> tuple[Any, ...] | None:
    """The row's tool schemas: a list, or the JSON text of one."""
    value, column = optional(row, "tools")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise RowProblem("error", f"column 'tools' is text that is not JSON: {error}") from None
    value = array_to_list(value)
    return tuple(_to_json_types(list_of("tools", value, column))) if value else None


def message(value: Any, column: str, role_key: str = "role", content_key: str = "content") -> dict[str, Any]:
    """One message as {role, content, ...}; a content of text parts is joined.

    A message may have keys of both spellings. The second role is removed. A second content with another text is kept as "value".
    """
    value = _to_json_types(value)
    if not isinstance(value, dict) or not isinstance(value.get(role_key), str):
        raise RowProblem("error", f"column {column!r} holds {str(value)[:60]!r}, not a message with {role_key!r}")
    content = value.get(content_key)
    if isinstance(content, list):
        if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
            raise RowProblem("error", f"column {column!r} holds a message with parts that are not text")
        content = "".join(part["text"] for part in content)
    content = text(content, column)
    rest = {key: item for key, item in value.items() if key not in MESSAGE_KEYS and item is not None}
    for key in WEIGHTS:
        if not isinstance(rest.get(key, 0), numbers.Real):
            raise RowProblem(
                "error", f"column {column!r} holds a message whose {key!r} is {str(rest[key])[:60]!r}, not a number, true or false"
            )
    other = value.get("value" if content_key == "content" else "content")
    if not is_empty(other) and other != content:
        rest["value"] = other
    return {"role": value[role_key], "content": content, **rest}


def messages(value: Any, column: str) -> tuple[dict[str, Any], ...]:
    """A list of messages."""
    return tuple(message(item, column) for item in list_of("messages", value, column))


def is_trained(message: Row) -> bool:
    """Whether a trainer trains on an assistant's turn: not where it has weight 0 or train false."""
    return all(_is_missing(message.get(key)) or message[key] != 0 for key in WEIGHTS)


def has_content(message: Row) -> bool:
    """Whether a turn has a content or, in its place, tool calls, reasoning and the like. Numbers and flags do not count."""
    return any(isinstance(item, (str, list, dict)) and item for key, item in message.items() if key != "role")


def split_at_answer(messages: tuple[dict[str, Any], ...], column: str, tools: tuple[Any, ...] | None) -> ChatSample:
    """The last assistant turn is the completion, the turns before it are the prompt; one that is trained on, if there is any."""
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    if not answers:
        raise RowProblem("unscorable", f"{column!r} has no assistant turn: no supervised token")
    if not any(has_content(messages[i]) for i in answers):
        raise RowProblem("unscorable", f"every assistant turn of {column!r} is empty: no supervised token")
    last = next((i for i in reversed(answers) if is_trained(messages[i])), answers[-1])
    return ChatSample(messages[:last], messages[last : last + 1], tools, after=messages[last + 1 :])
