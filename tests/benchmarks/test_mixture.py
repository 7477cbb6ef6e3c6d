"""The mixture of clean tasks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from mixture import MIXED, mixture

from clean_sets import DATA, needs_data, write_files
from gradsentry.bench.tasks import TASKS, as_text
from gradsentry.errors import DataError, UsageError


@needs_data
def test_a_mixture_holds_an_equal_share_of_every_task_shuffled() -> None:
    mixed = mixture(DATA, 122, 5)
    own = {task: {str(row) for row in TASKS[task](DATA)} for task in MIXED}
    tasks = [next(task for task in MIXED if str(row) in own[task]) for row in mixed]
    assert Counter(tasks) == {task: 21 if task in ("webquestions", "freebaseqa") else 20 for task in MIXED}
    assert len(set(tasks[:20])) > 3, "not task after task"
    assert mixture(DATA, 122, 5) == mixed
    assert {frozenset(as_text(row)) for row in mixed} == {frozenset(("prompt", "completion"))}


def test_a_mixture_has_at_least_one_row_of_every_task(tmp_path: Path) -> None:
    write_files(tmp_path)
    assert len(mixture(tmp_path, 6, 0)) == 6
    orders = {str(mixture(tmp_path, 6, seed)) for seed in range(9)}
    assert len(orders) > 3, "the seed decides"
    with pytest.raises(UsageError, match="a mixture of 5 rows leaves out a task"):
        mixture(tmp_path, 5, 0)
    with pytest.raises(DataError, match="nq has 1 rows, fewer than 2"):
        mixture(tmp_path, 12, 0)
