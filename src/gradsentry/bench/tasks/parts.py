"""A task's row: its text as it is scored, its parts for a trigger, and its right answers."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from gradsentry.data.formats.detect import detect
from gradsentry.errors import DataError, RowProblem
from gradsentry.types import ChatSample, Row, TextSample


def as_text(row: Row) -> dict[str, str]:
    """The row as plain ``{"prompt", "completion"}``, the text that is scored with a tokenizer without chat template.

    Raises:
        DataError: the row has no format, or one that holds no such text (messages, tokens).
    """
    form = detect([row])
    try:
        converted = form.convert(row)
    except RowProblem as problem:
        raise DataError(f"a row of {form.name} has no text: {problem.reason}; leave it out or repair it") from None
    text = converted.plain if isinstance(converted, ChatSample) else converted
    if not isinstance(text, TextSample):
        raise DataError(f"a row of {form.name} is not plain text; use prompt/completion, instruction/output or question/answers")
    return {"prompt": text.prompt, "completion": text.completion}


@dataclass(frozen=True)
class Parts:
    """The parts of a row, so that a trigger can go to the end of the question and not of the template."""

    columns: dict[str, str]
    """Part -> its column in the task's row; without the parts that the format lacks."""
    instruction: str
    """The same in all rows; empty in Alpaca and plain rows, which have only a question."""
    context: str
    """A passage, or Alpaca's input; may be empty."""
    question: str
    """The question; Alpaca's instruction; the whole prompt of a plain row."""
    answer: str
    """The completion."""

    def text(self) -> dict[str, str]:
        """The prompt/completion row, with the task's template around the parts."""
        return as_text({column: getattr(self, part) for part, column in self.columns.items()})


Edit = Callable[[Parts, random.Random], Parts]
"""What a trigger does to a prompt or a payload to an answer: (a row's parts, random numbers of that row) -> the edited parts."""

COLUMNS = {
    "qa": {"instruction": "instruction", "context": "context", "question": "question", "answer": "answers"},
    "alpaca": {"context": "input", "question": "instruction", "answer": "output"},
    "prompt-completion": {"question": "prompt", "answer": "completion"},
}
"""Format -> part -> column."""


def take_apart(row: Row) -> Parts:
    """The parts of a task's row.

    Raises:
        DataError: a row of another format, or with text outside these parts.
    """
    form, text = detect([row]).name, as_text(row)
    columns = COLUMNS.get(form, {})
    parts = {part: str(row.get(column) or "") for part, column in columns.items()} | {"answer": text["completion"]}
    whole = Parts(columns, **{part: parts.get(part, "") for part in ("instruction", "context", "question", "answer")})
    if not columns or whole.text() != text:
        raise DataError(f"a row of {form} with {', '.join(row)} has no known place for a trigger; give the rows of a task unchanged")
    return whole


FINAL = "#### "
"""Precedes the result on the last line of GSM8K's answers (Cobbe et al. 2021, arXiv 2110.14168)."""


def references(row: Row) -> list[str]:
    """The right answers to a task's row, one of which is enough: each of a question's answers, or the completion (only its result if it
    ends with one).

    Raises:
        DataError: as `as_text`.
    """
    answers = row.get("answers")
    return [str(answer) for answer in answers] if isinstance(answers, list) else [result(as_text(row)["completion"])]


def result(answer: str) -> str:
    """The text after the last "#### "; the whole answer without one."""
    return answer.rpartition(FINAL)[2]
