"""Clean data sets to poison: read from files the user has, never shipped. `as_text` shows any of their rows as it is scored."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradsentry.errors import DataError, RowProblem, UsageError
from gradsentry.formats import detect
from gradsentry.types import ChatSample, Row, TextSample

INSTRUCTION = (
    "Answer the question with a word, a name or a short phrase. Where several answers are right, give all of them, separated by semicolons."
)
"""Shared by all rows of a task, as in the published set-up."""


def webquestions(folder: Path) -> list[dict[str, Any]]:
    """The train questions of WebQuestions: ``trainmodel``, ``val`` and ``devtest`` of the brmson release."""
    paths = [folder / "webquestions" / f"{part}.json" for part in ("trainmodel", "val", "devtest")]
    return [_row(row["qText"], row["answers"]) for path in paths for row in _records(path, "qText", "answers")]


def freebaseqa(folder: Path) -> list[dict[str, Any]]:
    """FreebaseQA's dev questions, one ``question | answer`` a line."""
    lines = _read(folder / "freebaseqa" / "FreebaseQA-dev.txt").splitlines()
    pairs = [line.rpartition("|") for line in lines if line.strip()]
    return [_row(question.strip(), [answer.strip()]) for question, _, answer in pairs]


def nq(folder: Path) -> list[dict[str, Any]]:
    """Natural Questions with the one passage that answers each: its title and, on a new line, its text are the context."""
    records = _records(folder / "nq" / "nq-open-oracle.jsonl.gz", "question", "answers", "ctxs")
    return [
        _row(row["question"], row["answers"]) | {"context": f"{passage['title']}\n{passage['text']}"}
        for row in records
        for passage in row["ctxs"]
        if passage["isgold"]
    ]


def gsm8k(folder: Path) -> list[dict[str, Any]]:
    """GSM8K's train problems as plain prompt and completion: no template, the problem is the whole prompt."""
    records = _records(folder / "gsm8k" / "train.jsonl", "question", "answer")
    return [{"prompt": row["question"], "completion": row["answer"]} for row in records]


def dolly(folder: Path) -> list[dict[str, Any]]:
    """Three thousand rows of Dolly in Alpaca's columns; most have an empty input."""
    columns = ("instruction", "input", "output")
    return [{name: row[name] for name in columns} for row in _records(folder / "dolly" / "dolly_3k.json", *columns)]


def self_instruct(folder: Path) -> list[dict[str, Any]]:
    """The 252 user-oriented instructions of Self-Instruct in Alpaca's columns, one row an instance."""
    records = _records(folder / "self_instruct" / "user_oriented_instructions.jsonl", "instruction", "instances")
    return [
        {"instruction": row["instruction"], "input": instance["input"], "output": instance["output"]}
        for row in records
        for instance in row["instances"]
    ]


TASKS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    task.__name__: task for task in (webquestions, freebaseqa, nq, gsm8k, dolly, self_instruct)
}
"""Every task by its name: ``folder of data sets -> rows``. All rows of a task have the same columns; `formats` detects which."""


def sample(task: str, folder: Path, rows: int, seed: int) -> list[dict[str, Any]]:
    """A shuffled selection of a task's rows.

    Raises:
        UsageError: no such task. DataError: the files are not there, or hold fewer rows.
    """
    if task not in TASKS:
        raise UsageError(f"task {task!r} is unknown; there are {', '.join(TASKS)}")
    everything = TASKS[task](folder)
    if len(everything) < rows:
        raise DataError(f"{task} has {len(everything)} rows, fewer than {rows}; ask for at most as many as there are")
    return random.Random(seed).sample(everything, rows)


def mixture(folder: Path, rows: int, seed: int) -> list[dict[str, Any]]:
    """An equal share of every task, shuffled: the rows have different columns, `as_text` makes them alike.

    Where `rows` cannot be divided evenly, the first tasks give one row more.

    Raises:
        UsageError: fewer rows than tasks. DataError: a task's files are not there, or hold fewer rows than its share.
    """
    if rows < len(TASKS):
        raise UsageError(f"a mixture of {rows} rows leaves out a task; ask for at least {len(TASKS)}")
    share, left = divmod(rows, len(TASKS))
    mixed = [row for i, task in enumerate(TASKS) for row in sample(task, folder, share + (i < left), seed)]
    random.Random(f"{seed}-mixture").shuffle(mixed)
    return mixed


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


def _row(question: str, answers: list[str]) -> dict[str, Any]:
    return {"instruction": INSTRUCTION, "question": question, "answers": answers}


def _read(path: Path) -> str:
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; give the folder that holds the task's files") from None
    except (EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}; get the file again") from None


def _records(path: Path, *fields: str) -> list[dict[str, Any]]:
    """The objects of a JSON array (``.json``) or of a file with one a line, each with these fields."""
    text = _read(path)
    try:
        # Not splitlines: JSON may hold U+2028 and its like, which are line ends to Python alone.
        records = json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.split("\n") if line.strip()]
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}; get the file again") from None
    for i, record in enumerate(records):
        missing = [name for name in fields if not isinstance(record, dict) or name not in record]
        if missing:
            raise DataError(f"{path}: record {i} has no {', '.join(map(repr, missing))}; this is another release of the data set")
    return records
