"""KTO: prompt and completion, and whether the completion is desirable, as TRL and LLaMA-Factory write it."""

from __future__ import annotations

import numbers

from gradsentry.data import fields
from gradsentry.data.formats import alpaca, messages, prompt_completion, sharegpt
from gradsentry.data.formats.base import Format
from gradsentry.errors import RowProblem
from gradsentry.types import Row, Sample, SidesSample

LABELS = ("label", "kto_tag")
INNER = (messages, sharegpt, prompt_completion, alpaca)
"""Modules of the format that the row has without its label."""
WORDS = {"true": True, "false": False}
"""Labels as a CSV file has them."""


def read(row: Row) -> Sample:
    """The answer, as one of the desirable or one of the undesirable ones.

    KTO makes a model less likely to give an undesirable answer, so it trains on it too.
    """
    value, column = fields.required(row, *LABELS)
    label = WORDS.get(value.strip().lower()) if isinstance(value, str) else fields.array_to_list(value)
    if not isinstance(label, numbers.Real) or label not in (0, 1):
        raise RowProblem("error", f"column {column!r} is {str(value)[:60]!r}, not true or false")
    inner = next((item for item in INNER if item.FORMAT.fills(row)), prompt_completion)
    return SidesSample((("desirable" if label else "undesirable", inner.read(row)),))


def _has_label(row: Row) -> bool:
    """Whether the label is a truth value: columns of this name hold classes, too."""
    return any(isinstance(fields.array_to_list(row.get(name)), bool) for name in LABELS)


FORMAT = Format(
    name="kto",
    columns=(LABELS, ("completion", "messages", "conversations", "output", "response")),
    optional=("prompt", "instruction", "input", "context", "history", "tools", *fields.SYSTEM),
    read=read,
    supervised="answer; the desirable ones and the others are searched apart",
    sides=("desirable", "undesirable"),
    accepts=_has_label,
)
