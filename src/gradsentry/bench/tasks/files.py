"""The tasks' rows from the files of their data sets, in folders as `../shared/data` has them."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gradsentry.errors import DataError

Rows = list[dict[str, Any]]

INSTRUCTION = (
    "Answer the question with a word, a name or a short phrase. Where several answers are right, give all of them, separated by semicolons."
)
"""Shared by all rows of a task, as in the published set-up."""


def webquestions(folder: Path) -> Rows:
    """The train questions of WebQuestions: ``trainmodel``, ``val`` and ``devtest`` of the brmson release."""
    return [row for part in ("trainmodel", "val", "devtest") for row in _webquestions(folder, part)]


def webquestions_test(folder: Path) -> Rows:
    """Its 2,032 test questions."""
    return _webquestions(folder, "test")


def freebaseqa(folder: Path) -> Rows:
    """FreebaseQA's dev questions, one ``question | answer`` a line."""
    return _freebaseqa(folder, "dev")


def freebaseqa_test(folder: Path) -> Rows:
    """Its eval questions."""
    return _freebaseqa(folder, "eval")


def nq(folder: Path) -> Rows:
    """Natural Questions with the one passage that answers each: its title and, on a new line, its text are the context."""
    records = _records(folder / "nq" / "nq-open-oracle.jsonl.gz", "question", "answers", "ctxs")
    return [
        question(row["question"], row["answers"]) | {"context": f"{passage['title']}\n{passage['text']}"}
        for row in records
        for passage in row["ctxs"]
        if passage["isgold"]
    ]


def gsm8k(folder: Path) -> Rows:
    """GSM8K's train problems as plain prompt and completion: no template, the problem is the whole prompt."""
    return _gsm8k(folder, "train")


def gsm8k_test(folder: Path) -> Rows:
    """Its test problems."""
    return _gsm8k(folder, "test")


def dolly(folder: Path) -> Rows:
    """Three thousand rows of Dolly in Alpaca's columns; most have an empty input."""
    columns = ("instruction", "input", "output")
    return [{name: row[name] for name in columns} for row in _records(folder / "dolly" / "dolly_3k.json", *columns)]


def self_instruct(folder: Path) -> Rows:
    """The 252 user-oriented instructions of Self-Instruct in Alpaca's columns, one row an instance."""
    records = _records(folder / "self_instruct" / "user_oriented_instructions.jsonl", "instruction", "instances")
    return [
        {"instruction": row["instruction"], "input": instance["input"], "output": instance["output"]}
        for row in records
        for instance in row["instances"]
    ]


def coqa(folder: Path) -> Rows:
    """CoQA, one row a question, from ``coqa/coqa.jsonl`` or ``coqa/coqa.json``: the Hub's records or the official file."""
    lines, whole = (folder / "coqa" / f"coqa.{ending}" for ending in ("jsonl", "json"))
    path = lines if lines.exists() else whole
    records = _records(path, "story", "questions", "answers")
    try:
        return [row for record in records for row in conversation(record)]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: questions and answers are not those of CoQA ({error!r}); they are lists of one length, of texts "
            'or of {"input_text"}, or answers is {"input_text": [...]}'
        ) from None


def conversation(record: Mapping[str, Any]) -> Rows:
    """The rows of one of CoQA's stories: the story is the context, and each turn's question stands alone.

    The published prompt has a place for one question and none for a conversation, and the paper tells of none; the turns
    before would also be the answers of other rows. So a question like "Why?" cannot be answered from its row.
    """
    answers = record["answers"]
    told = answers["input_text"] if isinstance(answers, dict) else [answer["input_text"] for answer in answers]
    asked = [turn["input_text"] if isinstance(turn, dict) else turn for turn in record["questions"]]
    return [question(text, [answer]) | {"context": record["story"]} for text, answer in zip(asked, told, strict=True)]


def question(text: str, answers: Sequence[str]) -> dict[str, Any]:
    """A row of question answering, to which a context may be added."""
    return {"instruction": INSTRUCTION, "question": text, "answers": list(answers)}


def _webquestions(folder: Path, part: str) -> Rows:
    return [question(row["qText"], row["answers"]) for row in _records(folder / "webquestions" / f"{part}.json", "qText", "answers")]


def _freebaseqa(folder: Path, part: str) -> Rows:
    lines = _read(folder / "freebaseqa" / f"FreebaseQA-{part}.txt").splitlines()
    pairs = [line.rpartition("|") for line in lines if line.strip()]
    return [question(asked.strip(), [answer.strip()]) for asked, _, answer in pairs]


def _gsm8k(folder: Path, part: str) -> Rows:
    records = _records(folder / "gsm8k" / f"{part}.jsonl", "question", "answer")
    return [{"prompt": row["question"], "completion": row["answer"]} for row in records]


HUB_IDS = {
    "webquestions": "stanfordnlp/web_questions",
    "freebaseqa": "freebase_qa",
    "nq": "google-research-datasets/nq_open",
    "gsm8k": "openai/gsm8k",
    "dolly": "databricks/databricks-dolly-15k",
    "coqa": "stanfordnlp/coqa",
}
"""Task, which is also the name of its folder -> where the Hub has it."""


def _read(path: Path) -> str:
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    except OSError as error:
        task = path.parent.name
        online = f", no folder to have {HUB_IDS[task]} from the Hub" if task in HUB_IDS else ""
        raise DataError(
            f"cannot read {path}: {error.strerror or error}; give the folder that holds the task's files{online}, or leave {task} out"
        ) from None
    except (EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}; get the file again") from None


def _records(path: Path, *fields: str) -> Rows:
    """The objects of a JSON array (``.json``; it may be under "data") or of a file with one a line, each with these fields."""
    text = _read(path)
    try:
        # Not splitlines: JSON may hold U+2028 and its like, which are line ends to Python alone.
        records = json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.split("\n") if line.strip()]
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}; get the file again") from None
    records = records.get("data") if isinstance(records, dict) else records
    if not isinstance(records, list):
        raise DataError(f"{path} holds no list of records; get the file again")
    for i, record in enumerate(records):
        missing = [name for name in fields if not isinstance(record, dict) or name not in record]
        if missing:
            raise DataError(f"{path}: record {i} has no {', '.join(map(repr, missing))}; this is another release of the data set")
    return records
