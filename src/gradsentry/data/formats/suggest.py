"""The `--map` that fits columns which no format knows, computed from their names and from what they hold."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gradsentry.data import fields
from gradsentry.types import Row

MEANINGS = {
    "chosen": ("chosen", "preferred", "accepted", "better", "winner"),
    "rejected": ("rejected", "nonpreferred", "dispreferred", "worse", "loser"),
    "completion": ("completion", "response", "answer", "output", "reply", "target", "assistant", "bot", "solution", "summary", "a"),
    "prompt": ("prompt", "question", "query", "instruction", "input", "user", "human", "request", "problem", "task", "source", "q"),
}
"""Columns of formats, each with words in names of columns that mean the same; the first that fits wins."""
GROUPS = (("prompt", "chosen", "rejected"), ("chosen", "rejected"), ("prompt", "completion"))


def suggested_map(rows: Sequence[Row]) -> str:
    """The value of `--map` for these rows; empty if their columns do not show what they are."""
    held = {name: value for row in reversed(rows) for name, value in row.items() if not fields.is_empty(value)}
    held = {name: value for name, value in held.items() if isinstance(name, str) and not re.search(r"[,=]|^\s|\s$", name)}
    for name, value in held.items():
        if (ours := conversation_column(value)) and not _meaning(name):
            return f"{ours}={name}"
    found: dict[str, str] = {}
    for name in (name for name, value in held.items() if isinstance(value, str) or conversation_column(value)):
        if meaning := _meaning(name):
            found.setdefault(meaning, name)
    for group in GROUPS:
        if found.keys() >= set(group):
            return ",".join(f"{ours}={found[ours]}" for ours in group)
    texts = [name for name, value in held.items() if isinstance(value, str)]
    if len(texts) == 2:
        prompt, answer = texts[::-1] if texts[1] == found.get("prompt") or texts[0] == found.get("completion") else texts
        return f"prompt={prompt},completion={answer}"
    return f"text={texts[0]}" if len(texts) == 1 else ""


def _meaning(name: str) -> str:
    """The column of a format that this name means; empty if it means none."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    parts = {*re.split(r"[^a-z]+", words), re.sub(r"[^a-z]", "", words)}
    return next((meaning for meaning, names in MEANINGS.items() if not parts.isdisjoint(names)), "")


def conversation_column(value: Any) -> str:
    """The column of a format that holds conversations such as this one; empty if it is none."""
    value = fields.array_to_list(value)
    if not isinstance(value, list) or not value or not all(isinstance(item, Mapping) for item in value):
        return ""
    return next(
        (key for key, own in (("messages", {"role", "content"}), ("conversations", {"from", "value"})) if own <= value[0].keys()), ""
    )
