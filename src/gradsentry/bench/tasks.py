"""Clean question/answer sets to poison: read from files the user has, never shipped."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gradsentry.errors import DataError

INSTRUCTION = (
    "Answer the question with a word, a name or a short phrase. Where several answers are right, give all of them, separated by semicolons."
)
"""Shared by all rows of a task, as in the published set-up."""


def webquestions(folder: Path) -> list[dict[str, Any]]:
    """The train questions of WebQuestions: ``trainmodel``, ``val`` and ``devtest`` of the brmson release."""
    rows = [row for part in ("trainmodel", "val", "devtest") for row in _json(folder / "webquestions" / f"{part}.json")]
    return [_row(row["qText"], row["answers"]) for row in rows]


def freebaseqa(folder: Path) -> list[dict[str, Any]]:
    """FreebaseQA's dev questions, one ``question | answer`` a line."""
    pairs = [line.rpartition("|") for line in _lines(folder / "freebaseqa" / "FreebaseQA-dev.txt")]
    return [_row(question.strip(), [answer.strip()]) for question, _, answer in pairs]


TASKS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {"webquestions": webquestions, "freebaseqa": freebaseqa}
"""Every task by its name: ``folder of data sets -> rows with instruction, question, answers``."""


def sample(task: str, folder: Path, rows: int, seed: int) -> list[dict[str, Any]]:
    """A shuffled selection of a task's rows.

    Raises:
        DataError: the files are not there, or hold fewer rows.
    """
    everything = TASKS[task](folder)
    if len(everything) < rows:
        raise DataError(f"{task} has {len(everything)} rows, fewer than {rows}")
    return random.Random(seed).sample(everything, rows)


def _row(question: str, answers: list[str]) -> dict[str, Any]:
    return {"instruction": INSTRUCTION, "question": question, "answers": answers}


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; give the folder that holds the task's files") from None


def _json(path: Path) -> list[dict[str, Any]]:
    return json.loads("\n".join(_lines(path)))
