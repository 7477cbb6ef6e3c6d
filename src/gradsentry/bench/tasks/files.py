"""The tasks' rows from the files of their data sets, one folder a task."""

from __future__ import annotations

import gzip
import json
import logging
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from gradsentry.errors import DataError

log = logging.getLogger(__name__)

Rows = list[dict[str, Any]]
ANOTHER = "this is another release of the data set"

INSTRUCTION = (
    "Answer the question with a word, a name or a short phrase. Where several answers are right, give all of them, separated by semicolons."
)
"""The same for all rows of a task, as in the published set-up."""


def webquestions(folder: Path, *parts: str) -> Rows:
    """Questions of WebQuestions, by default the train questions: ``trainmodel``, ``val`` and ``devtest`` of the brmson release."""
    paths = [folder / "webquestions" / f"{part}.json" for part in parts or ("trainmodel", "val", "devtest")]
    return [row for path in paths for row in _rows(path, lambda record: [question(*fields(record, qText=str, answers=list))])]


def freebaseqa(folder: Path, part: str = "dev") -> Rows:
    """FreebaseQA's dev or eval questions, one ``question | answer`` a line."""
    path = folder / "freebaseqa" / f"FreebaseQA-{part}.txt"
    rows = []
    for number, line in enumerate(_read(path).splitlines(), start=1):
        asked, bar, answer = line.rpartition("|")
        if bar:
            rows.append(question(asked.strip(), [answer.strip()]))
        elif line.strip():
            raise DataError(f"{path}:{number}: {line[:60]!r} has no | between question and answer; {ANOTHER}")
    return answered(rows, str(path))


def nq(folder: Path) -> Rows:
    """Natural Questions with the one passage that answers each: its title and, on a new line, its text are the context."""

    def gold(record: Any) -> Rows:
        asked, answers, passages = fields(record, question=str, answers=list, ctxs=list)
        known = [fields(passage, title=str, text=str, isgold=bool) for passage in passages]
        return [question(asked, answers) | {"context": f"{title}\n{text}"} for title, text, is_gold in known if is_gold]

    return _rows(folder / "nq" / "nq-open-oracle.jsonl.gz", gold)


def gsm8k(folder: Path, part: str = "train") -> Rows:
    """GSM8K's train or test problems as plain prompt and completion: no template, the problem is the whole prompt."""
    return _rows(folder / "gsm8k" / f"{part}.jsonl", lambda record: [plain(*fields(record, question=str, answer=str))])


def dolly(folder: Path) -> Rows:
    """Three thousand rows of Dolly in Alpaca's columns; most have an empty input."""
    return _rows(folder / "dolly" / "dolly_3k.json", lambda record: [alpaca(*fields(record, instruction=str, input=str, output=str))])


def self_instruct(folder: Path) -> Rows:
    """The 252 user-oriented instructions of Self-Instruct in Alpaca's columns, one row an instance."""

    def each(record: Any) -> Rows:
        instruction, instances = fields(record, instruction=str, instances=list)
        return [alpaca(instruction, *fields(instance, input=str, output=str)) for instance in instances]

    return _rows(folder / "self_instruct" / "user_oriented_instructions.jsonl", each)


def coqa(folder: Path) -> Rows:
    """CoQA, one row a question, from ``coqa/coqa.jsonl`` or ``coqa/coqa.json``: the Hub's records or the official file."""
    lines, whole = (folder / "coqa" / f"coqa.{ending}" for ending in ("jsonl", "json"))
    return _rows(lines if lines.exists() else whole, conversation)


def conversation(record: Any) -> Rows:
    """The rows of one of CoQA's stories: the story is the context, each turn's question a row.

    The published prompt has a place for one question and none for a conversation; earlier turns would also contain the answers of other
    rows. A question like "Why?" therefore cannot be answered from its row.

    Raises:
        ValueError: as `fields`, or not as many answers as questions.
    """
    story, turns, given = fields(record, story=str, questions=list, answers=object)
    (answers,) = fields(given, input_text=list) if isinstance(given, Mapping) else fields(record, answers=list)
    if len(turns) != len(answers):
        raise ValueError(f"has {len(turns)} questions and {len(answers)} answers")
    pairs = zip(map(_said, turns), map(_said, answers), strict=True)
    return [question(asked, [answer]) | {"context": story} for asked, answer in pairs]


def _said(turn: Any) -> Any:
    """The text of one of CoQA's turns: a string in the Hub's records, a record in the official file."""
    return fields(turn, input_text=str)[0] if isinstance(turn, Mapping) else turn


def question(text: str, answers: Sequence[Any]) -> dict[str, Any]:
    """A row of question answering; the caller may add a context. Blank answers are left out.

    Raises:
        ValueError: the question or an answer is not text.
    """
    for said, what in ((text, "a question"), *((answer, "an answer") for answer in answers if answer is not None)):
        if not isinstance(said, str):
            raise ValueError(f"has {said!r:.60} for {what}, which is not text")
    return {"instruction": INSTRUCTION, "question": text, "answers": [answer for answer in answers if answer and answer.strip()]}


def alpaca(instruction: str, extra: str, output: str) -> dict[str, Any]:
    """A row in Alpaca's columns."""
    return {"instruction": instruction, "input": extra, "output": output}


def plain(prompt: str, completion: str) -> dict[str, Any]:
    """A row of prompt and completion."""
    return {"prompt": prompt, "completion": completion}


FILE_NAMES = {
    "webquestions": "webquestions/{trainmodel,val,devtest,test}.json",
    "freebaseqa": "freebaseqa/FreebaseQA-{dev,eval}.txt",
    "nq": "nq/nq-open-oracle.jsonl.gz",
    "coqa": "coqa/coqa.json or .jsonl",
    "gsm8k": "gsm8k/{train,test}.jsonl",
    "dolly": "dolly/dolly_3k.json",
    "self_instruct": "self_instruct/user_oriented_instructions.jsonl",
}
"""Task -> its files in a folder of data sets."""

HUB_IDS = {
    "webquestions": "stanfordnlp/web_questions",
    "freebaseqa": "KelvinJiang/freebase_qa",
    "nq": "google-research-datasets/nq_open",
    "gsm8k": "openai/gsm8k",
    "dolly": "databricks/databricks-dolly-15k",
    "coqa": "stanfordnlp/coqa",
}
"""Task (and folder name) -> its Hub id."""


def _read(path: Path) -> str:
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    except OSError as error:
        task = path.parent.name
        online = f", no folder to read {HUB_IDS[task]} from the Hub" if task in HUB_IDS else ""
        raise DataError(
            f"cannot read {path}: {error.strerror or error}; give the folder that holds the task's files{online}, or leave {task} out"
        ) from None
    except (EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}; download the file again") from None


def _rows(path: Path, made: Callable[[Any], Rows]) -> Rows:
    """The rows of all records: the values of a JSON array (``.json``; it may be under "data") or of a file with one value a line.

    Raises:
        DataError: no such file, a file without records, or a record of another form.
    """
    text = _read(path)
    try:
        # Not splitlines: JSON may contain U+2028 and similar, which only Python takes for line ends.
        records = json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.split("\n") if line.strip()]
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}; download the file again") from None
    records = records.get("data") if isinstance(records, dict) else records
    if not isinstance(records, list):
        raise DataError(f"{path} has no list of records; download the file again")
    rows: Rows = []
    for i, record in enumerate(records):
        try:
            rows += made(record)
        except ValueError as error:
            raise DataError(f"{path}: record {i} {error}; {ANOTHER}") from None
    return answered(rows, str(path))


KINDS = {str: "text", list: "a list", bool: "true or false"}
"""Types of a field and their names in messages."""


def fields(record: Any, **kinds: type) -> list[Any]:
    """A record's values under these names, in order; null becomes the empty value of its type.

    Args:
        kinds: name -> one of `KINDS`, or `object` for anything.

    Raises:
        ValueError: a field is missing, or of another type.
    """
    if missing := [name for name in kinds if not isinstance(record, Mapping) or name not in record]:
        raise ValueError(f"has no {', '.join(map(repr, missing))}")
    values = {name: kind() if record[name] is None else record[name] for name, kind in kinds.items()}
    for name, kind in kinds.items():
        if not isinstance(values[name], kind):
            raise ValueError(f"has {values[name]!r:.60} for {name!r}, which is not {KINDS[kind]}")
    return list(values.values())


def answered(rows: Rows, place: str) -> Rows:
    """The rows with a question and an answer; the number of the others is logged with their file or Hub id."""
    kept = [row for row in rows if _says(row, "question", "prompt", "instruction") and _says(row, "answers", "completion", "output")]
    if len(kept) < len(rows):
        _warn_once(f"{place}: {len(rows) - len(kept)} rows without a question or an answer are left out")
    return kept


def _says(row: Mapping[str, Any], *columns: str) -> bool:
    """Whether the first of these columns that the row has is not blank."""
    value = next(row[name] for name in columns if name in row)
    return bool(value.strip() if isinstance(value, str) else value)


@cache
def _warn_once(message: str) -> None:
    """Log a message about a file once, however often the file is read."""
    log.warning(message)
