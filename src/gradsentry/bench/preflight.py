"""Whether all data sets of a bench can be made: tried before anything is measured, not after an hour."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradsentry.bench.attacks import needs_model, poison, triggered
from gradsentry.bench.evaluate_finetuned import Trial, evaluation_rows, start
from gradsentry.bench.plan import Plan, clean_rows
from gradsentry.bench.tasks import split
from gradsentry.errors import DataError, UsageError


def check_sets(plan: Plan, trials: Sequence[Trial], data: Path | None) -> None:
    """Make every data set of a plan, and all rows that its models are trained and tested on.

    Of data sets that differ only in their ratio, the one with the highest ratio is made: it poisons the rows of the others, and more.

    Raises:
        UsageError, DataError: one cannot be made; the message begins with its task and attack.
    """
    by_ratio = sorted([*plan.data_sets(), *plan.slow_sets()], key=lambda s: (s.task, s.rows, s.seed, s.ratio))
    for made in {(s.task, s.rows, s.seed, s.attack): s for s in by_ratio}.values():
        rows = clean_rows(made.task, data, made.rows, made.seed)
        if made.attack:
            _try(made.task, made.attack, made.ratio, made.seed, rows, [])
    for task, attack, ratio, count, seed in dict.fromkeys(map(start, trials)):
        _try(task, attack, ratio, seed, split(task, data, "train", count, seed), evaluation_rows(task, data, seed))


def _try(task: str, attack: str, ratio: float, seed: int, rows: list[dict[str, Any]], tests: list[dict[str, Any]]) -> None:
    """Poison the rows, and add the trigger to the test rows."""
    if needs_model(attack):  # a paraphraser is slow, and can rewrite any row
        return
    try:
        poison(rows, attack, ratio, seed)
        triggered(tests, attack, seed)
    except (UsageError, DataError) as error:
        raise type(error)(f"{task}, {attack}: {error}") from None
