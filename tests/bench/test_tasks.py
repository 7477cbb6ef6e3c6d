"""Clean sets: the rows of every task, the mixture of all, and their plain text."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gradsentry.bench.tasks import INSTRUCTION, TASKS, as_text, mixture, sample, take_apart
from gradsentry.errors import DataError, UsageError
from gradsentry.formats import detect

DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"reads the clean data sets under {DATA}")

FILES = {
    "webquestions/trainmodel.json": [{"qText": "who is x?", "answers": ["X", "Y"]}],
    "webquestions/val.json": [],
    "webquestions/devtest.json": [{"qText": "who is z?", "answers": ["Z"]}],
    "freebaseqa/FreebaseQA-dev.txt": ["Who | what? | x", "", "Who? | y"],
    "nq/nq-open-oracle.jsonl.gz": [
        {
            "question": "where",
            "answers": ["here", "there"],
            "ctxs": [{"title": "No", "text": "no", "isgold": False}, {"title": "Places", "text": "It is here.", "isgold": True}],
        }
    ],
    "gsm8k/train.jsonl": [{"question": "1+1?\u2028", "answer": "2\n#### 2"}],
    "dolly/dolly_3k.json": [{"instruction": "Say", "category": "qa", "input": "", "output": "So"}],
    "self_instruct/user_oriented_instructions.jsonl": [
        {"id": 1, "instruction": "Turn", "instances": [{"input": "a", "output": "b"}, {"input": "", "output": "c"}]}
    ],
}
EXPECTED: dict[str, list[dict[str, Any]]] = {
    "webquestions": [
        {"instruction": INSTRUCTION, "question": "who is x?", "answers": ["X", "Y"]},
        {"instruction": INSTRUCTION, "question": "who is z?", "answers": ["Z"]},
    ],
    "freebaseqa": [
        {"instruction": INSTRUCTION, "question": "Who | what?", "answers": ["x"]},
        {"instruction": INSTRUCTION, "question": "Who?", "answers": ["y"]},
    ],
    "nq": [{"instruction": INSTRUCTION, "context": "Places\nIt is here.", "question": "where", "answers": ["here", "there"]}],
    "gsm8k": [{"prompt": "1+1?\u2028", "completion": "2\n#### 2"}],
    "dolly": [{"instruction": "Say", "input": "", "output": "So"}],
    "self_instruct": [{"instruction": "Turn", "input": "a", "output": "b"}, {"instruction": "Turn", "input": "", "output": "c"}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small file of every task."""
    for name, records in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        lines = [record if isinstance(record, str) else json.dumps(record, ensure_ascii=False) for record in records]
        text = "[" + ",".join(lines) + "]" if path.suffix == ".json" else "\n".join(lines) + "\n"
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return tmp_path


@pytest.mark.parametrize("task", TASKS)
def test_a_task_gives_these_rows_of_these_records(folder: Path, task: str) -> None:
    assert TASKS[task](folder) == EXPECTED[task]


@needs_data
@pytest.mark.parametrize(
    ("task", "rows", "form"),
    [
        ("webquestions", 3778, "qa"),
        ("freebaseqa", 4011, "qa"),
        ("nq", 2655, "qa"),
        ("gsm8k", 7473, "prompt-completion"),
        ("dolly", 2996, "alpaca"),
        ("self_instruct", 252, "alpaca"),
    ],
)
def test_the_real_rows_have_one_format_and_some_text_and_come_apart(task: str, rows: int, form: str) -> None:
    everything = TASKS[task](DATA)
    assert len(everything) == rows
    assert len({tuple(row) for row in everything}) == 1
    assert detect(everything[:100]).name == form
    for row in everything[:300]:
        text = as_text(row)
        parts = take_apart(row)
        assert text["prompt"]
        assert text["completion"] == parts.answer
        assert parts.text() == text
        assert text["prompt"].count(parts.question) >= 1


@needs_data
@pytest.mark.parametrize(("task", "digest"), [("webquestions", "45bacb6be3c48c2f"), ("freebaseqa", "ce3239bbba343534")])
def test_the_selections_behind_the_committed_results_do_not_move(task: str, digest: str) -> None:
    assert hashlib.sha256(json.dumps(sample(task, DATA, 400, 0)).encode()).hexdigest()[:16] == digest


@needs_data
def test_a_sample_can_be_all_rows_but_no_more() -> None:
    assert Counter(map(str, sample("self_instruct", DATA, 252, 3))) == Counter(map(str, TASKS["self_instruct"](DATA)))
    with pytest.raises(DataError, match="self_instruct has 252 rows, fewer than 253"):
        sample("self_instruct", DATA, 253, 3)


@needs_data
def test_a_mixture_holds_an_equal_share_of_every_task_shuffled() -> None:
    mixed = mixture(DATA, 122, 5)
    own = {task: {str(row) for row in TASKS[task](DATA)} for task in TASKS}
    tasks = [next(task for task in TASKS if str(row) in own[task]) for row in mixed]
    assert Counter(tasks) == {task: 21 if task in ("webquestions", "freebaseqa") else 20 for task in TASKS}
    assert len(set(tasks[:20])) > 3, "not task after task"
    assert mixture(DATA, 122, 5) == mixed
    assert {frozenset(as_text(row)) for row in mixed} == {frozenset(("prompt", "completion"))}


def test_a_mixture_has_at_least_one_row_of_every_task(folder: Path) -> None:
    assert len(mixture(folder, 6, 0)) == 6
    orders = {str(mixture(folder, 6, seed)) for seed in range(9)}
    assert len(orders) > 3, "the seed decides"
    with pytest.raises(UsageError, match="5 rows leaves out a task"):
        mixture(folder, 5, 0)
    with pytest.raises(DataError, match="nq has 1 rows, fewer than 2"):
        mixture(folder, 12, 0)


@pytest.mark.parametrize(
    ("row", "prompt", "completion"),
    [
        (
            EXPECTED["nq"][0] | {"instruction": "Answer."},
            "### Instruction:\nAnswer.\n\n\n\n### Context:\nPlaces\nIt is here.\n\n\n\n### Question:\nwhere\n\n\n\n### Answer: ",
            "here; there",
        ),
        (EXPECTED["gsm8k"][0], "1+1?\u2028", "2\n#### 2"),
        (EXPECTED["dolly"][0], "### Instruction:\nSay\n\n### Response:\n", "So"),
        (EXPECTED["self_instruct"][0], "### Instruction:\nTurn\n\n### Input:\na\n\n### Response:\n", "b"),
    ],
)
def test_a_row_as_text(row: dict[str, Any], prompt: str, completion: str) -> None:
    assert as_text(row) == {"prompt": prompt, "completion": completion}
    assert as_text(as_text(row)) == as_text(row)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "messages is no plain text"),
        ({"input_ids": [1], "labels": [1]}, "tokens is no plain text"),
        ({"prompt": "a", "completion": ""}, "'completion' is empty"),
        ({"a": 1}, "cannot tell the format"),
    ],
)
def test_a_row_without_a_plain_text_is_refused(row: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        as_text(row)


@pytest.mark.parametrize(
    "row",
    [{"instruction": "a", "output": "b", "system": "c"}, {"instruction": "a", "context": "c", "response": "b"}, {"text": "a"}],
)
def test_a_row_that_holds_more_than_the_parts_is_not_taken_apart(row: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="cannot be taken apart"):
        take_apart(row)


def test_an_unknown_task_is_refused_with_those_that_there_are(folder: Path) -> None:
    with pytest.raises(UsageError, match=f"'coqa' is unknown; there are {', '.join(TASKS)}"):
        sample("coqa", folder, 1, 0)


@pytest.mark.parametrize("task", TASKS)
def test_absent_files_are_named(tmp_path: Path, task: str) -> None:
    with pytest.raises(DataError, match=f"cannot read {tmp_path / task}.*give the folder"):
        TASKS[task](tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "task", "says"),
    [
        ("nq/nq-open-oracle.jsonl.gz", b"no gzip", "nq", "cannot read .*nq-open-oracle"),
        ("nq/nq-open-oracle.jsonl.gz", gzip.compress(b"{}" * 99)[:-12], "nq", "cannot read .*nq-open-oracle"),
        ("gsm8k/train.jsonl", b"\xff", "gsm8k", "cannot read .*train.jsonl"),
        ("gsm8k/train.jsonl", b'{"question": "a"', "gsm8k", "train.jsonl is not JSON"),
        ("gsm8k/train.jsonl", b'{"question": "a"}', "gsm8k", "record 0 has no 'answer'"),
        ("dolly/dolly_3k.json", b"[1]", "dolly", "record 0 has no 'instruction', 'input', 'output'"),
    ],
)
def test_broken_files_are_named(folder: Path, name: str, content: bytes, task: str, says: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=says):
        TASKS[task](folder)
