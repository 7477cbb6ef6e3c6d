"""Turns of conversations, and cells of the odd sort."""

from __future__ import annotations

from typing import Any

from gradsentry.data.fields import Unreadable

NAN = float("nan")
HUGE = 10**5000
"""An integer that Python does not write out."""
UNREAD = Unreadable("'utf-8' codec can't decode")


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}
