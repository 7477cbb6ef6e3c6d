"""The tasks' rows from the Hub, which stands in for: which data set is asked for, and what becomes of its records."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pytest

from clean_sets import EXPECTED, FILES
from gradsentry.bench.tasks import INSTRUCTION, TASKS, from_hub, sample, split
from gradsentry.bench.tasks.files import FILE_NAMES, HUB_IDS
from gradsentry.bench.tasks.hub import CONVERTED
from gradsentry.errors import DataError, UsageError

PARSES = [{"Parse-Id": "1", "Answers": [{"AnswersMid": "m", "AnswersName": ["x"]}, {"AnswersMid": "n", "AnswersName": ["x", "y"]}]}]


TURNED = {"Parse-Id": ["1"], "Answers": [{"AnswersMid": ["m", "n"], "AnswersName": [["x"], ["x", "y"]]}]}


HUB: list[tuple[str, tuple[str, str | None, str], dict[str, Any], list[dict[str, Any]]]] = [
    (
        "webquestions",
        ("stanfordnlp/web_questions", None, "test"),
        {"url": "u", "question": "who?", "answers": ["X", "Y"]},
        [{"instruction": INSTRUCTION, "question": "who?", "answers": ["X", "Y"]}],
    ),
    (
        "freebaseqa",
        ("KelvinJiang/freebase_qa", None, "test"),
        {"RawQuestion": "who?", "Parses": PARSES},
        [{"instruction": INSTRUCTION, "question": "who?", "answers": ["x", "y"]}],
    ),
    (
        "freebaseqa",
        ("KelvinJiang/freebase_qa", None, "test"),
        {"RawQuestion": "who?", "Parses": TURNED},
        [{"instruction": INSTRUCTION, "question": "who?", "answers": ["x", "y"]}],
    ),
    (
        "nq",
        ("google-research-datasets/nq_open", None, "validation"),
        {"question": "where", "answer": ["here"]},
        [{"instruction": INSTRUCTION, "question": "where", "answers": ["here"]}],
    ),
    ("gsm8k", ("openai/gsm8k", "main", "test"), {"question": "1+1?", "answer": "2"}, [{"prompt": "1+1?", "completion": "2"}]),
    (
        "dolly",
        ("databricks/databricks-dolly-15k", None, ""),
        {"instruction": "Say", "context": "it", "response": "So", "category": "qa"},
        [{"instruction": "Say", "input": "it", "output": "So"}],
    ),
    ("coqa", ("stanfordnlp/coqa", None, "validation"), FILES["coqa/coqa.json"][0], EXPECTED["coqa"]),
]


@pytest.mark.parametrize(("task", "asked", "record", "expected"), HUB)
def test_without_a_folder_rows_come_from_the_hub(
    monkeypatch: pytest.MonkeyPatch, task: str, asked: tuple[str, str | None, str], record: dict[str, Any], expected: list[dict[str, Any]]
) -> None:
    calls = []

    def load_dataset(name: str, config: str | None, split: str, revision: str | None) -> datasets.Dataset:
        calls.append((name, config, split))
        assert revision == (CONVERTED if task == "freebaseqa" else None)
        return datasets.Dataset.from_list([record])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert from_hub(task) == expected
    assert Counter(map(str, sample(task, None, len(expected), 0))) == Counter(map(str, expected))
    assert calls == [(*asked[:2], "train")] * 2
    if asked[2]:
        assert Counter(map(str, split(task, None, "test"))) == Counter(map(str, expected))
        assert calls[-1] == asked
    else:
        with pytest.raises(UsageError, match="has no test rows"):
            from_hub(task, "test")
        assert split(task, None, "train") == expected, "a tenth of one row is none"


def test_what_the_hub_does_not_have_or_not_now_or_not_so_is_reported_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route to the Hub\nand more")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    for task, said in (("coqa", "coqa/coqa.json or .jsonl"), ("webquestions", "webquestions/{trainmodel,val,devtest,test}.json")):
        with pytest.raises(DataError) as caught:
            sample(task, None, 1, 0)
        assert str(caught.value) == (
            f"{task}: {HUB_IDS[task]} cannot be read from the Hub: no route to the Hub; check the connection, "
            f"or give --data FOLDER with {said} in it, or leave {task} out"
        )
    with pytest.raises(UsageError, match=r"'self_instruct' has no known Hub id.*give --data FOLDER with self_instruct/user_oriented_instr"):
        sample("self_instruct", None, 1, 0)
    with pytest.raises(UsageError, match="'squad' is unknown"):
        sample("squad", None, 1, 0)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_list([{"text": "a"}]))
    for task in ("webquestions", "freebaseqa", "nq", "gsm8k", "dolly", "coqa"):
        with pytest.raises(
            DataError, match=rf"{HUB_IDS[task]} has other fields than expected: record 0 has no '.*; give --data FOLDER with {task}/"
        ):
            from_hub(task)


def test_answers_without_a_name_are_none_and_questions_without_answers_are_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    named, nameless = ({"RawQuestion": "who?", "Parses": [{"Answers": [{"AnswersName": names}]}]} for names in ([None, "x"], [None]))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_list([named, nameless]))
    assert from_hub("freebaseqa") == [{"instruction": INSTRUCTION, "question": "who?", "answers": ["x"]}]
    assert [record.getMessage() for record in caplog.records] == [
        f"{HUB_IDS['freebaseqa']}: 1 rows without a question or an answer are left out"
    ]


def test_the_guide_has_the_files_and_hub_ids_that_messages_name() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "bench.md").read_text(encoding="utf-8")
    lines = {line.split("`")[1]: line.replace("`", "") for line in guide.splitlines() if re.match(r"\| `\w+` \| `\w+/", line)}
    assert set(lines) == set(TASKS) == set(FILE_NAMES)
    for task, line in lines.items():
        assert f"| {FILE_NAMES[task]}" in line
        assert HUB_IDS.get(task, "| |") in line
