"""The tasks' rows from their files: what is read, and what is said of files that are not there or broken."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from clean_sets import EXPECTED, FILES
from gradsentry.bench.tasks import TASKS, sample
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
    ("questions", "answers"),
    [(["a"], {"input_text": []}), (["a"], ["b"]), ([{"text": "a"}], {"input_text": ["b"]}), (["a"], {"text": ["b"]}), (["a"], None)],
)
def test_conversations_of_another_form_are_refused(folder: Path, questions: Any, answers: Any) -> None:
    (folder / "coqa" / "coqa.json").write_text(json.dumps([{"story": "s", "questions": questions, "answers": answers}]), encoding="utf-8")
    with pytest.raises(DataError, match=r"coqa.json: questions and answers are not those of CoQA .*lists of one length"):
        TASKS["coqa"](folder)


def test_absent_coqa_says_which_file_to_give_and_what_the_hub_calls_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*coqa/coqa\.json: .* no folder to have stanfordnlp/coqa from the Hub, or"):
        sample("coqa", tmp_path, 1, 0)


@pytest.mark.parametrize("task", TASKS)
def test_absent_files_are_named(tmp_path: Path, task: str) -> None:
    with pytest.raises(DataError, match=f"cannot read {tmp_path / task}.*give the folder.*, or leave {task} out$"):
        TASKS[task](tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "task", "says"),
    [
        ("nq/nq-open-oracle.jsonl.gz", b"no gzip", "nq", "cannot read .*nq-open-oracle"),
        ("nq/nq-open-oracle.jsonl.gz", gzip.compress(b"{}" * 99)[:-12], "nq", "cannot read .*nq-open-oracle"),
        ("gsm8k/train.jsonl", b"\xff", "gsm8k", "cannot read .*train.jsonl"),
        ("gsm8k/train.jsonl", b'{"question": "a"', "gsm8k", "train.jsonl is not JSON"),
        ("gsm8k/train.jsonl", b'{"question": "a"}', "gsm8k", "record 0 has no 'answer'"),
        ("dolly/dolly_3k.json", b"3", "dolly", "dolly_3k.json holds no list of records"),
        ("dolly/dolly_3k.json", b'{"a": []}', "dolly", "dolly_3k.json holds no list of records"),
        ("dolly/dolly_3k.json", b"[1]", "dolly", "record 0 has no 'instruction', 'input', 'output'"),
    ],
)
def test_broken_files_are_named(folder: Path, name: str, content: bytes, task: str, says: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=says):
        TASKS[task](folder)
