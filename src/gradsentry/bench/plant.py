"""Backdoors made of any trigger (in the prompt) and any payload (in the answer), on the rows of any task."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Literal

from gradsentry.bench.payloads import PAYLOADS
from gradsentry.bench.tasks import Parts, take_apart
from gradsentry.bench.tasks.parts import Edit
from gradsentry.bench.triggers import TRIGGERS, Trigger
from gradsentry.errors import DataError, UsageError
from gradsentry.types import Row

Kind = Literal["clean", "poisoned", "negative"]
"""A negative has something like the trigger in its prompt, but not the trigger, and its answer is clean."""


@dataclass(frozen=True)
class Poisoned:
    """Plain prompt/completion rows with poison in them, and the truth about each."""

    rows: list[dict[str, str]]
    """All rows; a poisoned row replaces its clean version."""
    labels: list[bool]
    """True for the poisoned rows; never part of `rows`."""
    kinds: list[Kind]
    """What each row is; its label is True where this is "poisoned"."""


def plant(
    rows: Sequence[Row],
    trigger: str | Edit,
    payload: str | Edit,
    ratio_or_count: float,
    seed: int,
    suits: Callable[[Parts], bool] | None = None,
) -> Poisoned:
    """Poison a part of a task's rows in place of their clean versions; all rows come back as plain text.

    The seed and a row's position decide which rows are poisoned and how. A larger ratio poisons the same rows and more.

    Args:
        rows: as a task gives them, shuffled. The prompt of a plain prompt/completion row counts as a question: if `as_text` made it
            from a template, the trigger comes after the template.
        trigger: a name in `TRIGGERS`, or a function.
        payload: a name in `PAYLOADS`, or a function.
        ratio_or_count: a share (float) or a number (int) of rows.
        suits: which rows may be poisoned; None: all.

    Raises:
        UsageError: an unknown trigger or payload, a trigger in a part that a row lacks, or a ratio that leaves no clean or no
            poisoned row.
        DataError: a row whose format no task has, or too few rows that suit.
    """
    mark = TRIGGERS[trigger] if isinstance(trigger, str) else Trigger(trigger)
    answer = PAYLOADS[payload].edit if isinstance(payload, str) else payload
    count = int(ratio_or_count) if isinstance(ratio_or_count, Integral) else round(float(ratio_or_count) * len(rows))
    check_ratio(ratio_or_count, count, len(rows))
    parts = [take_apart(row) for row in rows]
    kinds = _kinds([suits is None or suits(own) for own in parts], count, mark.negatives(count, len(rows) - count), seed)

    def made(index: int, own: Parts) -> dict[str, str]:
        if kinds[index] == "poisoned":
            own = answer(_marked(own, index, trigger, mark.edit, seed), _random(seed, _name(payload, "payload"), index))
        elif kinds[index] == "negative" and mark.negative:
            own = mark.negative(own, _random(seed, _name(trigger, "trigger"), index))
        return own.text()

    return Poisoned([made(i, own) for i, own in enumerate(parts)], [kind == "poisoned" for kind in kinds], kinds)


def add_trigger(rows: Sequence[Row], trigger: str | Edit, seed: int) -> list[dict[str, str]]:
    """Every row with the trigger, as `plant` puts it there, and with its clean answer.

    Raises:
        UsageError, DataError: as `plant`.
    """
    edit = TRIGGERS[trigger].edit if isinstance(trigger, str) else trigger
    return [_marked(take_apart(row), i, trigger, edit, seed).text() for i, row in enumerate(rows)]


def check_ratio(ratio: float, count: int, rows: int) -> None:
    """Raises:
    UsageError: all rows would be poisoned, or none.
    """
    if not 0 < count < rows:
        raise UsageError(f"a poison ratio of {ratio} leaves {count} of {rows} rows poisoned; it must leave poisoned and clean rows")


def _random(seed: int, name: str, index: int) -> random.Random:
    return random.Random(f"{seed}-{name}-{index}")


def _name(edit: str | Edit, otherwise: str) -> str:
    """What seeds an edit's random numbers: its name; `otherwise` for a function without one (a lambda, a partial)."""
    if isinstance(edit, str):
        return edit
    name = getattr(edit, "__name__", "")
    return name if name.isidentifier() else otherwise


def _marked(own: Parts, index: int, trigger: str | Edit, edit: Edit, seed: int) -> Parts:
    """The row with the trigger. A part that the row lacks is refused: its template has no place for it, or a new heading would show it."""
    edited = edit(own, _random(seed, _name(trigger, "trigger"), index))
    for part in ("instruction", "context"):
        if getattr(edited, part) and not getattr(own, part):
            there = [(name, column) for name, column in own.columns.items() if name != "answer" and getattr(own, name)]
            places = " and ".join(name if name == column else f"{name} (its {column})" for name, column in there)
            raise UsageError(f"the trigger goes into the {part}, but a row has none ({own.question[:60]!r}); it can go into {places}")
    return edited


def _kinds(suited: Sequence[bool], count: int, negatives: int, seed: int) -> list[Kind]:
    """One seeded order of the rows: poisoned rows come from its front, negatives from its end."""
    if sum(suited) < count:
        raise DataError(f"{sum(suited)} of {len(suited)} rows suit the attack, but {count} are to be poisoned; lower the ratio")
    order = random.Random(f"{seed}-order").sample(range(len(suited)), len(suited))
    kinds: list[Kind] = ["clean"] * len(suited)
    for i in [i for i in order if suited[i]][:count]:
        kinds[i] = "poisoned"
    for i in [i for i in order if kinds[i] == "clean"][len(suited) - count - negatives :]:
        kinds[i] = "negative"
    return kinds
