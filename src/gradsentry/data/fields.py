"""Cells of a row -> text, lists and messages. A cell that holds something else is a problem of its row."""

from __future__ import annotations

import json
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gradsentry.errors import RowProblem
from gradsentry.types import ChatSample, Row

SPELLINGS = ("role", "content", "from", "value")
"""The keys of a message that say who speaks and what, in both spellings."""


@dataclass(frozen=True, repr=False)
class Unreadable:
    """Stands in a row for a cell whose value could not be read. It is a problem of the row only where a format reads it."""

    reason: str

    def __repr__(self) -> str:
        return f"(cannot be read: {self.reason})"


def optional(row: Row, *names: str) -> tuple[Any, str]:
    """The first of these columns with something in it: its value and its name; None and the first name where there is none.

    Raises:
        RowProblem: the value could not be read.
    """
    name = next((name for name in names if not empty(row.get(name))), None)
    if name is None:
        return None, names[0]
    if isinstance(row[name], Unreadable):
        raise RowProblem("error", f"column {name!r}: a value cannot be read: {row[name].reason}; mend or remove the row")
    return row[name], name


def first(row: Row, *names: str) -> tuple[Any, str]:
    """As `optional`, of columns of which one must be there: where all are empty, the first that the row has.

    Raises:
        RowProblem: none is there, or the value could not be read.
    """
    present = [name for name in names if name in row]
    if not present:
        columns = ", ".join(map(repr, row)) or "no columns"
        raise RowProblem("error", f"column {' or '.join(map(repr, names))} is missing; the row has {columns}")
    value, name = optional(row, *present)
    return (row[name] if value is None else value), name


def empty(value: Any) -> bool:
    """Whether there is nothing in the cell. In a table the columns of other formats are there, with nothing in them."""
    value = unboxed(value)
    return _missing(value) or (isinstance(value, (str, list, tuple)) and not value)


def _missing(value: Any) -> bool:
    """None, or the NaN that pandas writes in its place."""
    return value is None or (isinstance(value, numbers.Real) and bool(value != value))


def unboxed(value: Any) -> Any:
    """An array of numpy or pandas as the list that it holds; anything else as it is."""
    return value.tolist() if hasattr(value, "tolist") and not isinstance(value, numbers.Number) else value


def plain(value: Any, column: str) -> Any:
    """The value as JSON knows it, at any depth: arrays as lists, numbers of numpy as Python's."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, dict):
        return {key: plain(item, column) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, column) for item in value]
    if isinstance(value, int):
        _digits(value, column)  # a template or a message would write it out
    return value


def _digits(number: Any, column: str) -> str:
    try:
        return str(number)
    except ValueError:  # Python refuses to write out integers of thousands of digits
        raise RowProblem("error", f"column {column!r} holds an integer with too many digits to be read") from None


def text(value: Any, column: str) -> str:
    """A text cell; numbers are written out, None and NaN are empty, anything else is an error."""
    if _missing(value):
        return ""
    if isinstance(value, numbers.Number) and not isinstance(value, bool):
        return _digits(value, column)
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
    """A list or an array; `of` says what it should hold."""
    value = unboxed(value)
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise RowProblem("error", f"column {column!r} is {type(value).__name__}, not a list of {of}")
    return value


def token_ids(value: Any, column: str) -> tuple[int, ...]:
    """A list of whole numbers; those of numpy too."""
    ids = listed(value, column, "token ids")
    whole = all(issubclass(kind, numbers.Integral) and kind is not bool for kind in set(map(type, ids)))  # rows are long: no loop
    if not whole or (ids and not -(2**63) <= min(ids) <= max(ids) < 2**63):
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
    value = unboxed(value)
    return tuple(plain(listed(value, column, "tools"), column)) if value else None


def message(value: Any, column: str, role_key: str = "role", content_key: str = "content") -> dict[str, Any]:
    """One message as {role, content, ...}; a content of text parts is joined.

    Of a message in both spellings the one that is read is all that remains: another role or content in the other would hide it.
    """
    value = plain(value, column)
    if not isinstance(value, dict) or not isinstance(value.get(role_key), str):
        raise RowProblem("error", f"column {column!r} holds {str(value)[:60]!r}, not a message with {role_key!r}")
    content = value.get(content_key)
    if isinstance(content, list):
        if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
            raise RowProblem("error", f"column {column!r} holds a message with parts that are not text")
        content = "".join(part["text"] for part in content)
    rest = {key: item for key, item in value.items() if key not in SPELLINGS and item is not None}
    return {"role": value[role_key], "content": text(content, column), **rest}


def says_something(message: Row) -> bool:
    """Whether a turn has a content or, in its place, calls, reasoning and the like; numbers and flags beside it say nothing."""
    return any(isinstance(item, (str, list, dict)) and item for key, item in message.items() if key != "role")


def messages(value: Any, column: str) -> tuple[dict[str, Any], ...]:
    """A list of messages."""
    return tuple(message(item, column) for item in listed(value, column, "messages"))


def split_at_answer(messages: tuple[dict[str, Any], ...], column: str, tools: tuple[Any, ...] | None) -> ChatSample:
    """The last assistant turn is the completion, what stands before it the prompt."""
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    if not answers:
        raise RowProblem("unscorable", f"{column!r} has no assistant turn: no supervised token")
    last = answers[-1]
    if not any(says_something(messages[i]) for i in answers):
        raise RowProblem("unscorable", f"every assistant turn of {column!r} is empty: no supervised token")
    return ChatSample(messages[:last], messages[last : last + 1], tools)
