"""The tasks' rows from their files: what is read, and what is said of files that are not there or broken."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from clean_sets import EXPECTED, FILES
from gradsentry.bench.tasks import INSTRUCTION, TASKS, sample
from gradsentry.errors import DataError


@pytest.mark.parametrize("task", TASKS)
def test_a_task_gives_these_rows_of_these_records(folder: Path, task: str) -> None:
    assert TASKS[task](folder) == EXPECTED[task]


def official(records: list[dict[str, Any]]) -> str:
    """CoQA's own file of the Hub's records."""
    data = [
        {
            "story": record["story"],
            "questions": [{"input_text": text, "turn_id": i + 1} for i, text in enumerate(record["questions"])],
            "answers": [{"input_text": text, "span_text": "x", "turn_id": i + 1} for i, text in enumerate(record["answers"]["input_text"])],
        }
        for record in records
    ]
    return json.dumps({"version": "1.0", "data": data})


def test_coqa_is_read_from_lines_and_from_the_official_file_too(folder: Path) -> None:
    records: Any = FILES["coqa/coqa.json"]
    (folder / "coqa" / "coqa.json").write_text(official(records), encoding="utf-8")
    assert TASKS["coqa"](folder) == EXPECTED["coqa"]
    (folder / "coqa" / "coqa.json").unlink()
    (folder / "coqa" / "coqa.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    assert TASKS["coqa"](folder) == EXPECTED["coqa"]


@pytest.mark.parametrize(
    ("questions", "answers", "says"),
    [
        (["a"], {"input_text": []}, "has 1 questions and 0 answers"),
        (["a"], [{"text": "b"}], "has no 'input_text'"),
        ([{"text": "a"}], {"input_text": ["b"]}, "has no 'input_text'"),
        (["a"], {"text": ["b"]}, "has no 'input_text'"),
        (["a"], None, "has 1 questions and 0 answers"),
        ("a", {"input_text": ["b"]}, "has 'a' for 'questions', which is not a list"),
        (["a"], {"input_text": "b"}, "has 'b' for 'input_text', which is not a list"),
        (["a"], {"input_text": [3]}, "has 3 for an answer, which is not text"),
    ],
)
def test_conversations_of_another_form_are_refused(folder: Path, questions: Any, answers: Any, says: str) -> None:
    records = [*FILES["coqa/coqa.json"], {"story": "s", "questions": questions, "answers": answers}]
    (folder / "coqa" / "coqa.json").write_text(json.dumps(records), encoding="utf-8")
    with pytest.raises(DataError, match=rf"coqa.json: record 1 {says}; this is another release of the data set$"):
        TASKS["coqa"](folder)


def test_absent_coqa_says_which_file_to_give_and_what_the_hub_calls_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*coqa/coqa\.json: .* no folder to read stanfordnlp/coqa from the Hub, or"):
        sample("coqa", tmp_path, 1, 0)


@pytest.mark.parametrize("task", TASKS)
def test_absent_files_are_named(tmp_path: Path, task: str) -> None:
    with pytest.raises(DataError, match=f"cannot read {tmp_path / task}.*give the folder.*, or leave {task} out$"):
        TASKS[task](tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "task", "says"),
    [
        ("nq/nq-open-oracle.jsonl.gz", b"no gzip", "nq", "cannot read .*nq-open-oracle"),
        ("nq/nq-open-oracle.jsonl.gz", gzip.compress(b"{}" * 99, mtime=0)[:-12], "nq", "cannot read .*nq-open-oracle"),
        ("gsm8k/train.jsonl", b"\xff", "gsm8k", "cannot read .*train.jsonl"),
        ("gsm8k/train.jsonl", b'{"question": "a"', "gsm8k", "train.jsonl is not JSON"),
        ("gsm8k/train.jsonl", b'{"question": "a"}', "gsm8k", "record 0 has no 'answer'"),
        ("dolly/dolly_3k.json", b"3", "dolly", "dolly_3k.json has no list of records"),
        ("dolly/dolly_3k.json", b'{"a": []}', "dolly", "dolly_3k.json has no list of records"),
        ("dolly/dolly_3k.json", b"[1]", "dolly", "record 0 has no 'instruction', 'input', 'output'"),
        (
            "freebaseqa/FreebaseQA-dev.txt",
            b"q | a\n\nno bar here\n",
            "freebaseqa",
            r"FreebaseQA-dev.txt:3: 'no bar here' has no \| between",
        ),
    ],
)
def test_broken_files_are_named(folder: Path, name: str, content: bytes, task: str, says: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=says):
        TASKS[task](folder)


@pytest.mark.parametrize(
    ("name", "record", "says"),
    [
        ("dolly/dolly_3k.json", {"instruction": "a", "input": "", "output": ["b"]}, r"\['b'\] for 'output', which is not text"),
        ("webquestions/val.json", {"qText": "q", "answers": "abc"}, "'abc' for 'answers', which is not a list"),
        ("webquestions/val.json", {"qText": "q", "answers": [{"a": 1}]}, "{'a': 1} for an answer, which is not text"),
        ("self_instruct/user_oriented_instructions.jsonl", {"instruction": "q", "instances": [{"output": "o"}]}, "no 'input'"),
        ("self_instruct/user_oriented_instructions.jsonl", {"instruction": "q", "instances": {"a": 1}}, "{'a': 1} for 'instances'"),
        ("nq/nq-open-oracle.jsonl.gz", {"question": "q", "answers": ["a"], "ctxs": [{"title": "t", "text": "x"}]}, "no 'isgold'"),
        ("nq/nq-open-oracle.jsonl.gz", {"question": "q", "answers": ["a"], "ctxs": ["x"]}, "no 'title', 'text', 'isgold'"),
        ("nq/nq-open-oracle.jsonl.gz", {"question": 3, "answers": ["a"], "ctxs": []}, "3 for 'question', which is not text"),
    ],
)
def test_a_record_of_another_form_is_named_with_its_number(folder: Path, name: str, record: dict[str, Any], says: str) -> None:
    records = [*FILES[name], record]
    lines = "\n".join(map(json.dumps, records))
    content = (json.dumps(records) if name.endswith(".json") else lines).encode()
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    place = f"{folder / name}: record {len(records) - 1} has"
    with pytest.raises(DataError, match=rf"^{place} {says}.*; this is another release of the data set$"):
        TASKS[name.partition("/")[0]](folder)


@pytest.mark.parametrize(
    ("name", "content", "task", "left"),
    [
        ("webquestions/val.json", '[{"qText": "q", "answers": []}, {"qText": "", "answers": ["a"]}]', "webquestions", 2),
        ("webquestions/val.json", '[{"qText": "q", "answers": null}]', "webquestions", 1),
        ("webquestions/val.json", '[{"qText": "q", "answers": [null, " "]}]', "webquestions", 1),
        ("freebaseqa/FreebaseQA-dev.txt", "Who | what? | x\nWho? | y\nWho? | \n | y\n", "freebaseqa", 2),
        ("gsm8k/train.jsonl", '{"question": "1+1?\u2028", "answer": "2\\n#### 2"}\n{"question": "a", "answer": null}\n', "gsm8k", 1),
        ("dolly/dolly_3k.json", json.dumps([*FILES["dolly/dolly_3k.json"], {"instruction": "a", "input": "b", "output": ""}]), "dolly", 1),
    ],
)
def test_rows_without_a_question_or_an_answer_are_left_out_and_counted_once(
    folder: Path, caplog: pytest.LogCaptureFixture, name: str, content: str, task: str, left: int
) -> None:
    (folder / name).write_text(content, encoding="utf-8")
    for _ in range(2):
        assert TASKS[task](folder) == EXPECTED[task]
    assert [record.getMessage() for record in caplog.records] == [
        f"{folder / name}: {left} rows without a question or an answer are left out"
    ]


def test_answers_that_say_nothing_are_left_out_of_those_of_a_row(folder: Path) -> None:
    (folder / "webquestions" / "val.json").write_text('[{"qText": "q", "answers": ["", "a", null]}]')
    assert {"instruction": INSTRUCTION, "question": "q", "answers": ["a"]} in TASKS["webquestions"](folder)
