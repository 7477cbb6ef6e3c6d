"""The tasks' rows from the Hub, which stands in for: which data set is asked for, and what becomes of its records."""

from __future__ import annotations

from collections import Counter
from typing import Any

import datasets
import pytest

from clean_sets import EXPECTED, FILES
from gradsentry.bench.tasks import INSTRUCTION, from_hub, sample, split
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
        ("freebase_qa", None, "test"),
        {"RawQuestion": "who?", "Parses": PARSES},
        [{"instruction": INSTRUCTION, "question": "who?", "answers": ["x", "y"]}],
    ),
    (
        "freebaseqa",
        ("freebase_qa", None, "test"),
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

    def load_dataset(name: str, config: str | None, split: str) -> datasets.Dataset:
        calls.append((name, config, split))
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


def test_what_the_hub_does_not_have_or_not_now_or_not_so_is_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route to the Hub\nand more")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(
        DataError,
        match=r"stanfordnlp/coqa cannot be had from the Hub: no route to the Hub; check .* folder that holds coqa/, or leave it out$",
    ):
        sample("coqa", None, 1, 0)
    with pytest.raises(UsageError, match=r"'self_instruct' is not on the Hub.*give a folder"):
        sample("self_instruct", None, 1, 0)
    with pytest.raises(UsageError, match="'squad' is unknown"):
        sample("squad", None, 1, 0)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_list([{"text": "a"}]))
    for task in ("webquestions", "freebaseqa", "nq", "gsm8k", "dolly", "coqa"):
        with pytest.raises(DataError, match="has other fields than expected"):
            from_hub(task)
