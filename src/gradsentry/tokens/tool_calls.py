"""Tool calls: whether the text that a chat template renders holds them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from gradsentry.types import Row

METADATA = ("id", "type", "index")
"""Keys of a call that name neither the tool nor an argument."""


def missing_from_text(turn: Row, text: str) -> bool:
    """Whether the turn calls a tool and `text` lacks the name or an argument of the call."""
    try:
        return any(not _is_in_text(value, text) for value in _names_and_arguments(turn))
    except (RecursionError, ValueError):  # no template has rendered arguments nested so deeply, or integers with so many digits
        return True


def _names_and_arguments(turn: Row) -> Iterator[Any]:
    """Names and arguments in OpenAI's `tool_calls` and its older `function_call`; a call of another shape as it is."""
    calls = turn.get("tool_calls") or []
    for call in [*(calls if isinstance(calls, (list, tuple)) else [calls]), turn.get("function_call") or {}]:
        body = call
        if isinstance(call, dict):
            body = next((call[key] for key in ("function", "custom") if isinstance(call.get(key), dict)), call)
        yield from (value for key, value in body.items() if key not in METADATA) if isinstance(body, dict) else [body]


def _is_in_text(value: Any, text: str) -> bool:
    """Whether the text holds every part of the value: as it is, as JSON, or as Python writes it.

    Arguments may be the JSON text of an object, which a template may parse and write in another layout.
    """
    if isinstance(value, dict):
        return all(_is_in_text(key, text) and _is_in_text(item, text) for key, item in value.items() if item is not None)
    if isinstance(value, (list, tuple)):
        return all(_is_in_text(item, text) for item in value)
    if not isinstance(value, str):
        return any(form in text for form in (str(value), json.dumps(value, default=str)))
    if any(form in text for form in (value, json.dumps(value, ensure_ascii=False)[1:-1], json.dumps(value)[1:-1], repr(value)[1:-1])):
        return True
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return False
    return isinstance(parsed, (dict, list)) and _is_in_text(parsed, text)
