"""Clean data sets to poison, read from the user's files or from the Hub; never shipped.

`TASKS` are the data sets, `sample` and `split` draw rows of one, `as_text` gives the text of a row as it is scored.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gradsentry.bench.tasks import files
from gradsentry.bench.tasks.files import INSTRUCTION, Rows
from gradsentry.bench.tasks.hub import ON_HUB, Part, from_hub
from gradsentry.bench.tasks.parts import Parts, as_text, references, result, take_apart
from gradsentry.errors import DataError, UsageError

__all__ = [
    "INSTRUCTION", "TASKS", "TESTS",
    "Parts", "as_text", "fingerprint", "from_hub", "references", "result", "sample", "split", "take_apart",
]  # fmt: skip

Reader = Callable[[Path], Rows]

TASKS: dict[str, Reader] = {
    task.__name__: task
    for task in (files.webquestions, files.freebaseqa, files.nq, files.gsm8k, files.dolly, files.self_instruct, files.coqa)
}
"""Every task by its name: ``folder of data sets -> rows``. All rows of a task have the same columns."""

TESTS: dict[str, Reader] = {
    "webquestions": lambda folder: files.webquestions(folder, "test"),
    "freebaseqa": lambda folder: files.freebaseqa(folder, "eval"),
    "gsm8k": lambda folder: files.gsm8k(folder, "test"),
}
"""The test rows of the tasks whose files have some."""

HELD_OUT = 0.1
"""Share of a task that is held out for testing if it has no test rows."""


def sample(task: str, folder: Path | None, rows: int, seed: int) -> list[dict[str, Any]]:
    """A shuffled selection of a task's train rows.

    Args:
        folder: of the data sets; None reads the Hub.

    Raises:
        UsageError: no such task. DataError: its files are missing, the Hub is unreachable, or it has fewer rows.
    """
    return _drawn(task, _train(task, folder), rows, seed)


def split(task: str, folder: Path | None, part: Part, rows: int | None = None, seed: int = 0) -> list[dict[str, Any]]:
    """A shuffled selection of a task's train or test rows, which share no row for any seeds.

    WebQuestions, FreebaseQA and GSM8K have test rows; on the Hub NQ and CoQA too. Of the other tasks always the same tenth is held out,
    by context where there is one: questions on one passage or story stay together.

    Args:
        folder: as for `sample`. rows: how many; None: all.

    Raises:
        UsageError: no such task or part. DataError: as `sample`.
    """
    if part not in ("train", "test"):
        raise UsageError(f"part {part!r} of {task} is unknown; it can be train or test")
    whole = _train(task, folder)
    if folder is None and ON_HUB[task].test:
        chosen = from_hub(task, "test") if part == "test" else whole
    elif folder is not None and task in TESTS:
        chosen = TESTS[task](folder) if part == "test" else whole
    else:
        chosen = [row for row, held in zip(whole, _held_out(whole), strict=True) if held == (part == "test")]
    return _drawn(f"the {part} part of {task}", chosen, len(chosen) if rows is None else rows, seed)


def fingerprint(task: str, folder: Path | None, part: Part) -> str:
    """Sixteen hexadecimal digits that identify a task's test rows, or the train rows that `sample` draws from.

    Raises:
        UsageError, DataError: as `sample`.
    """
    rows = _train(task, folder) if part == "train" else split(task, folder, "test")
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()[:16]


def _train(task: str, folder: Path | None) -> Rows:
    if task not in TASKS:
        raise UsageError(f"task {task!r} is unknown; there are {', '.join(TASKS)}")
    return TASKS[task](folder) if folder is not None else from_hub(task)


def _drawn(what: str, everything: Rows, rows: int, seed: int) -> Rows:
    if len(everything) < rows:
        raise DataError(f"{what} has {len(everything)} rows, fewer than {rows}; use at most that many")
    return random.Random(seed).sample(everything, rows)


def _held_out(rows: Rows) -> list[bool]:
    """[N] whether a row is for testing."""
    groups = [parts.context or parts.question for parts in map(take_apart, rows)]
    different = list(dict.fromkeys(groups))
    held = set(random.Random("held-out").sample(different, round(HELD_OUT * len(different))))
    return [own in held for own in groups]
