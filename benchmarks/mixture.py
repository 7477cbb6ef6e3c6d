"""A mixture of clean tasks: rows with different columns, which `as_text` makes alike."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from gradsentry.bench.tasks import sample
from gradsentry.errors import UsageError

MIXED = ("webquestions", "freebaseqa", "nq", "gsm8k", "dolly", "self_instruct")
"""The tasks of the mixture, in the order on which measured results depend."""


def mixture(folder: Path, rows: int, seed: int) -> list[dict[str, Any]]:
    """An equal share of each of `MIXED`, shuffled; the first tasks give one row more where `rows` does not divide evenly.

    Raises:
        UsageError: fewer rows than tasks. DataError: a task's files are missing, or hold fewer rows than its share.
    """
    if rows < len(MIXED):
        raise UsageError(f"a mixture of {rows} rows leaves out a task; take at least {len(MIXED)}")
    share, left = divmod(rows, len(MIXED))
    mixed = [row for i, task in enumerate(MIXED) for row in sample(task, folder, share + (i < left), seed)]
    random.Random(f"{seed}-mixture").shuffle(mixed)
    return mixed
