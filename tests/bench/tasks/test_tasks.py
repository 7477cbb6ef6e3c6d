"""Selections of clean rows: samples, train and test parts."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from clean_sets import DATA, EXPECTED, needs_data
from gradsentry.bench.tasks import INSTRUCTION, TASKS, TESTS, as_text, fingerprint, sample, split, take_apart
from gradsentry.data.formats.detect import detect
from gradsentry.errors import DataError, UsageError


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


def test_a_sample_can_be_all_rows_but_no_more(folder: Path) -> None:
    assert Counter(map(str, sample("self_instruct", folder, 2, 3))) == Counter(map(str, EXPECTED["self_instruct"]))
    with pytest.raises(DataError, match="self_instruct has 2 rows, fewer than 3"):
        sample("self_instruct", folder, 3, 3)


def test_an_unknown_task_is_refused_with_those_that_there_are(folder: Path) -> None:
    with pytest.raises(UsageError, match=f"'squad' is unknown; there are {', '.join(TASKS)}"):
        sample("squad", folder, 1, 0)


@pytest.mark.parametrize("task", TESTS)
def test_a_task_with_test_files_has_these_test_rows_and_all_others_to_train_on(folder: Path, task: str) -> None:
    expected = {
        "webquestions": [{"instruction": INSTRUCTION, "question": "who is t?", "answers": ["T"]}],
        "freebaseqa": [{"instruction": INSTRUCTION, "question": "Who", "answers": ["t"]}],
        "gsm8k": [{"prompt": "1+2?", "completion": "3\n#### 3"}],
    }
    assert split(task, folder, "test") == expected[task]
    assert Counter(map(str, split(task, folder, "train"))) == Counter(map(str, EXPECTED[task]))


def stories(folder: Path, count: int) -> None:
    """CoQA with so many stories of three turns, the first question being the same in all of them."""
    lines = [
        {"story": f"Story {i}.", "questions": ["Who?", f"What {i}?", f"Why {i}?"], "answers": {"input_text": ["a", "b", "c"]}}
        for i in range(count)
    ]
    (folder / "coqa" / "coqa.json").write_text(json.dumps(lines), encoding="utf-8")


def test_what_is_held_out_is_a_tenth_of_the_stories_whatever_the_seeds(folder: Path) -> None:
    stories(folder, 50)
    test = split("coqa", folder, "test", seed=1)
    train = split("coqa", folder, "train", seed=2)
    assert Counter(row["context"] for row in test) == dict.fromkeys({row["context"] for row in test}, 3)
    assert len(test) == 15
    assert Counter(map(str, [*test, *train])) == Counter(map(str, TASKS["coqa"](folder)))
    assert split("coqa", folder, "test", seed=3) != test, "shuffled by the seed"
    assert Counter(map(str, split("coqa", folder, "test", seed=3))) == Counter(map(str, test))
    assert len(few := split("coqa", folder, "test", rows=4)) == 4
    assert set(map(str, few)) < set(map(str, test))


def test_more_rows_than_a_part_has_and_parts_that_there_are_not_are_refused(folder: Path) -> None:
    stories(folder, 20)
    with pytest.raises(DataError, match="the test part of coqa has 6 rows, fewer than 7"):
        split("coqa", folder, "test", 7)
    with pytest.raises(UsageError, match="part 'dev' of coqa is unknown; it can be train or test"):
        split("coqa", folder, "dev")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="'squad' is unknown"):
        split("squad", folder, "test")


@needs_data
@pytest.mark.parametrize(("task", "test", "train"), [("webquestions", 2032, 3778), ("freebaseqa", 4023, 4011), ("gsm8k", 1319, 7473)])
def test_published_test_rows(task: str, test: int, train: int) -> None:
    assert (len(split(task, DATA, "test")), len(split(task, DATA, "train"))) == (test, train)
    assert split(task, DATA, "train", 50, 3) == sample(task, DATA, 50, 3), "a sample is one of train rows"


@needs_data
@pytest.mark.parametrize("task", ["nq", "dolly", "self_instruct"])
def test_what_is_held_out_of_real_rows_is_disjoint(task: str) -> None:
    test, train = split(task, DATA, "test"), split(task, DATA, "train")
    whole = len(TASKS[task](DATA))
    assert len(test) + len(train) == whole
    assert len(test) == pytest.approx(whole / 10, rel=0.1)
    prompts = [{as_text(row)["prompt"] for row in part} for part in (test, train)]
    assert not prompts[0] & prompts[1]


def test_a_fingerprint_stands_for_the_rows_and_their_order(folder: Path) -> None:
    rows = folder / "gsm8k" / "train.jsonl"
    known = rows.read_text(encoding="utf-8")
    other = known.replace("1+1", "1+2")
    assert fingerprint("gsm8k", folder, "train") == fingerprint("gsm8k", folder, "train")
    found = set()
    for text in (known, other, known + other, other + known):
        rows.write_text(text, encoding="utf-8")
        found.add(fingerprint("gsm8k", folder, "train"))
    assert len(found) == 4
    before = fingerprint("gsm8k", folder, "test")
    tests = folder / "gsm8k" / "test.jsonl"
    tests.write_text(tests.read_text(encoding="utf-8").replace("1+2", "1+3"), encoding="utf-8")
    assert fingerprint("gsm8k", folder, "test") != before
