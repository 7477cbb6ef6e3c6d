"""Which rows the filters flag: rows that data sets share are measured once, and known results are not measured again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from gradsentry.bench.filters import FILTERS
from gradsentry.bench.filters.base import Filter, Places, Verdicts
from gradsentry.bench.metrics import auroc, best_f1, identification
from gradsentry.bench.plan import DataSet, key
from gradsentry.bench.plant import Poisoned
from gradsentry.bench.resources import watched
from gradsentry.bench.results import Result, Results
from gradsentry.bench.training import TargetModel

Missing = Sequence[tuple[DataSet, str]]
"""Data sets, and the name of a filter whose result is not known."""

WARM_UP = 4
"""Rows on which a filter runs before it is timed."""


def evaluate_filters(
    data_sets: Sequence[DataSet],
    names: Sequence[str],
    target: TargetModel,
    data: Path | None,
    results: Results,
    report: Callable[[str], None],
) -> None:
    """Add every missing result to the results: each filter on each data set.

    Time and memory are a filter's own work on a loaded model: memory is counted beyond the model, and a per-row filter runs on a few
    rows first, so that imports and buffers of a first call do not count. A filter that fine-tunes loads its own model, which counts.

    Args:
        names: of filters.
        data: as for `DataSet.make`.

    Raises:
        UsageError: an unknown filter. DataError: a task's files are missing.
    """
    filters = {name: FILTERS[name] for name in names}
    for task, seed in dict.fromkeys((one.task, one.seed) for one in data_sets):  # these have most of their rows in common
        own = [one for one in data_sets if (one.task, one.seed) == (task, seed)]
        missing = [(one, name) for one in own for name in names if key(one, name) not in results.found]
        if missing:
            # All data sets, known ones too: the rows in a batch change the last bits of a result, and an interrupted bench
            # has to end with the results of an uninterrupted one.
            made = {one: one.make(data) for one in own}
            places, rows = _union(made)
            report(f"{task}, seed {seed}: {len(missing)} results, {len(rows)} different rows")
            _measure_shared({n: f for n, f in filters.items() if f.per_row}, missing, made, places, rows, target, results, report)
            for one, name in missing:
                chosen, whole = filters[name], made[one].rows
                if not chosen.per_row:
                    report(f"{task}, {one.attack or 'clean'}: {name}")
                    _ = target.scorer  # loaded before memory is counted, as for the other filters
                    with watched() as cost:
                        verdicts = chosen.decide(chosen.measure(target, whole), np.arange(len(whole)), whole, one.seed)
                    _add(one, name, verdicts, made[one], cost.seconds / one.rows, cost.memory, one.rows, results)


def _union(made: dict[DataSet, Poisoned]) -> tuple[dict[DataSet, Places], list[dict[str, Any]]]:
    """The different rows of some data sets, and the places of each data set's rows among them.

    Rows are sorted by prompt, because a forward pass computes what neighbours share once.
    """
    known = {(row["prompt"], row["completion"]): row for poisoned in made.values() for row in poisoned.rows}
    order = {pair: i for i, pair in enumerate(sorted(known))}
    places = {one: np.array([order[row["prompt"], row["completion"]] for row in poisoned.rows]) for one, poisoned in made.items()}
    return places, [known[pair] for pair in order]


def _measure_shared(
    filters: dict[str, Filter],
    missing: Missing,
    made: dict[DataSet, Poisoned],
    places: dict[DataSet, Places],
    rows: list[dict[str, Any]],
    target: TargetModel,
    results: Results,
    report: Callable[[str], None],
) -> None:
    """Per-row filters: one pass over all rows for each function that measures."""
    wanted = {name for _, name in missing if name in filters}
    for measure in dict.fromkeys(filters[name].measure for name in filters if name in wanted):
        own = [name for name in filters if name in wanted and filters[name].measure is measure]
        report(f"  {', '.join(own)}")
        tried = measure(target, rows[:WARM_UP])
        for name in own:
            filters[name].decide(tried, np.arange(len(rows[:WARM_UP])), rows[:WARM_UP], 0)
        with watched() as cost:
            measured = measure(target, rows)
        for one, name in missing:
            if name in own:
                with watched() as deciding:
                    verdicts = filters[name].decide(measured, places[one], made[one].rows, one.seed)
                seconds = cost.seconds / len(rows) + deciding.seconds / one.rows
                _add(one, name, verdicts, made[one], seconds, max(cost.memory, deciding.memory), len(rows), results)


def _add(
    one: DataSet, name: str, verdicts: Verdicts, made: Poisoned, seconds_a_row: float, memory: float, rows: int, results: Results
) -> None:
    """Keep the counts, rates and cost of one filter on one data set."""
    found = identification(verdicts.flagged.tolist(), made.labels)
    result: Result = asdict(one) | {"filter": name} | asdict(found)
    result |= {rate: round(getattr(found, rate), 4) for rate in ("recall", "precision", "f1", "accuracy")}
    if verdicts.scores is not None and 0 < sum(made.labels) < len(made.labels):
        scores = verdicts.scores.tolist()
        result |= {"auroc": round(auroc(scores, made.labels), 4), "best_f1": round(best_f1(scores, made.labels), 4)}
    result |= {"ms_a_row": round(1000 * seconds_a_row, 2), "memory_mib": round(memory), "measured_rows": rows}
    results.add(key(one, name), result)
