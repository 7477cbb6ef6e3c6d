"""Whether all data sets of a bench can be made: tried before anything is measured, not after an hour."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradsentry.bench.attacks import BY_MODEL, poison, triggered
from gradsentry.bench.plan import Plan, clean_rows
from gradsentry.bench.tasks import split
from gradsentry.bench.tuned import Trial, same, to_ask
from gradsentry.errors import DataError, UsageError


def check_sets(plan: Plan, trials: Sequence[Trial], data: Path | None) -> None:
    """Nothing, if every data set of a plan, and all that its models are trained on and asked, can be made.

    Of sets that differ in their ratio alone the one with the highest is made: it poisons the rows of the others, and more.

    Raises:
        UsageError, DataError: one cannot be; the message begins with its task and attack.
    """
    cells = [*plan.cells(), *(plan.slow_cells() if plan.slow else ())]
    for cell in {(c.task, c.rows, c.seed, c.attack): c for c in sorted(cells, key=lambda c: (c.task, c.rows, c.seed, c.ratio))}.values():
        rows = clean_rows(cell.task, data, cell.rows, cell.seed)
        if cell.attack:
            _try(cell.task, cell.attack, cell.ratio, cell.seed, rows, [])
    for task, attack, ratio, count, seed in dict.fromkeys(map(same, trials)):
        _try(task, attack, ratio, seed, split(task, data, "train", count, seed), to_ask(task, data, seed))


def _try(task: str, attack: str, ratio: float, seed: int, rows: list[dict[str, Any]], tests: list[dict[str, Any]]) -> None:
    """Poison the rows, and mark those that a model would be asked."""
    if attack.startswith(BY_MODEL):  # a paraphraser takes its time, and writes into what is there
        return
    try:
        poison(rows, attack, ratio, seed)
        triggered(tests, attack, seed)
    except (UsageError, DataError) as error:
        raise type(error)(f"{task}, {attack}: {error}") from None
