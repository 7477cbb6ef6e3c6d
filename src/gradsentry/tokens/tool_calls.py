"""Tool calls: whether what a turn calls stands in the text that its chat template makes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from gradsentry.types import Row

BESIDE = ("id", "type", "index")
"""What a call has beside what it says."""


def left_out(turn: Row, text: str) -> bool:
    """Whether a turn calls a tool, and the name or an argument of the call does not stand in `text`."""
    try:
        return any(not _stands(said, text) for said in _said(turn))
    except RecursionError:  # arguments that are nested so deeply were rendered by nobody
        return True


def _said(turn: Row) -> Iterator[Any]:
    """What the calls of a turn say: OpenAI's `tool_calls` and its old `function_call`, and whatever else stands in their place."""
    calls = turn.get("tool_calls") or []
    for call in [*(calls if isinstance(calls, (list, tuple)) else [calls]), turn.get("function_call") or {}]:
        body = call
        if isinstance(call, dict):
            body = next((call[key] for key in ("function", "custom") if isinstance(call.get(key), dict)), call)
        yield from (value for key, value in body.items() if key not in BESIDE) if isinstance(body, dict) else [body]


def _stands(value: Any, text: str) -> bool:
    """Whether all that a value holds stands in the text, as it is, as JSON or as Python writes it.

    Arguments are an object, or the text of one, which a template may write anew.
    """
    if isinstance(value, dict):
        return all(_stands(key, text) and _stands(item, text) for key, item in value.items() if item is not None)
    if isinstance(value, (list, tuple)):
        return all(_stands(item, text) for item in value)
    if not isinstance(value, str):
        return any(form in text for form in (str(value), json.dumps(value, default=str)))
    if any(form in text for form in (value, json.dumps(value, ensure_ascii=False)[1:-1], json.dumps(value)[1:-1], repr(value)[1:-1])):
        return True
    try:
        held = json.loads(value)
    except (ValueError, RecursionError):
        return False
    return isinstance(held, (dict, list)) and _stands(held, text)
