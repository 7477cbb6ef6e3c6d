"""A task's row as it is scored, taken apart for a trigger, and what a right answer to it is."""

from __future__ import annotations

from dataclasses import dataclass

from gradsentry.data.formats.detect import detect
from gradsentry.errors import DataError, RowProblem
from gradsentry.types import ChatSample, Row, TextSample


def as_text(row: Row) -> dict[str, str]:
    """The row as plain ``{"prompt", "completion"}``: the text that is scored where the tokenizer has no chat template.

    Raises:
        DataError: the row has no format, or one that holds no such text (messages, tokens).
    """
    form = detect([row])
    try:
        converted = form.convert(row)
    except RowProblem as problem:
        raise DataError(f"a row of {form.name} has no text: {problem.reason}; leave it out or mend it") from None
    text = converted.plain if isinstance(converted, ChatSample) else converted
    if not isinstance(text, TextSample):
        raise DataError(f"a row of {form.name} is no plain text; give prompt/completion, instruction/output or question/answers")
    return {"prompt": text.prompt, "completion": text.completion}


@dataclass(frozen=True)
class Parts:
    """A row taken apart, so that a trigger can stand where the question ends and not where the template does."""

    columns: dict[str, str]
    """Part -> the column of the task's row that holds it; what the format lacks is not in it."""
    instruction: str
    """What all rows share; empty in Alpaca and plain rows, where the question says all."""
    context: str
    """A passage, or Alpaca's input; may be empty."""
    question: str
    """The question; Alpaca's instruction; the whole prompt of a plain row."""
    answer: str
    """The completion."""

    def text(self) -> dict[str, str]:
        """The prompt/completion row, with the task's own template around the parts."""
        return as_text({column: getattr(self, part) for part, column in self.columns.items()})


COLUMNS = {
    "qa": {"instruction": "instruction", "context": "context", "question": "question", "answer": "answers"},
    "alpaca": {"context": "input", "question": "instruction", "answer": "output"},
    "prompt-completion": {"question": "prompt", "answer": "completion"},
}
"""Format -> part -> column."""


def take_apart(row: Row) -> Parts:
    """The parts of a task's row.

    Raises:
        DataError: a row of another format, or one whose text holds more than these parts.
    """
    form, text = detect([row]).name, as_text(row)
    columns = COLUMNS.get(form, {})
    parts = {part: str(row.get(column) or "") for part, column in columns.items()} | {"answer": text["completion"]}
    whole = Parts(columns, **{part: parts.get(part, "") for part in ("instruction", "context", "question", "answer")})
    if not columns or whole.text() != text:
        raise DataError(f"a row of {form} with {', '.join(row)} cannot be taken apart for a trigger; give the rows of a task as they are")
    return whole


FINAL = "#### "
"""Stands before the result in GSM8K's answers, on their last line (Cobbe et al. 2021, arXiv 2110.14168)."""


def references(row: Row) -> list[str]:
    """The right answers to a task's row, one of which is enough: each of a question's answers, or the whole completion; of one
    that ends with a result, this alone.

    Raises:
        DataError: as `as_text`.
    """
    answers = row.get("answers")
    return [str(answer) for answer in answers] if isinstance(answers, list) else [result(as_text(row)["completion"])]


def result(answer: str) -> str:
    """What stands behind the last "#### "; an answer without it as it is."""
    return answer.rpartition(FINAL)[2]
