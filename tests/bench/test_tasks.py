"""Clean sets: the rows of every task, the mixture of all, and their plain text."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pytest

from gradsentry.bench.tasks import INSTRUCTION, MIXED, TASKS, TESTS, as_text, from_hub, mixture, references, sample, split, take_apart
from gradsentry.errors import DataError, UsageError
from gradsentry.formats import detect

DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"reads the clean data sets under {DATA}")

FILES = {
    "webquestions/trainmodel.json": [{"qText": "who is x?", "answers": ["X", "Y"]}],
    "webquestions/val.json": [],
    "webquestions/devtest.json": [{"qText": "who is z?", "answers": ["Z"]}],
    "webquestions/test.json": [{"qText": "who is t?", "answers": ["T"]}],
    "freebaseqa/FreebaseQA-eval.txt": ["Who | t"],
    "gsm8k/test.jsonl": [{"question": "1+2?", "answer": "3\n#### 3"}],
    "coqa/coqa.json": [
        {
            "source": "wikipedia",
            "story": "Ann has a cat. It is red.",
            "questions": ["What has Ann?", "Which colour?"],
            "answers": {"input_text": ["a cat", "red"], "answer_start": [0, 15], "answer_end": [14, 25]},
        }
    ],
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
    "coqa": [
        {"instruction": INSTRUCTION, "question": "What has Ann?", "answers": ["a cat"], "context": "Ann has a cat. It is red."},
        {"instruction": INSTRUCTION, "question": "Which colour?", "answers": ["red"], "context": "Ann has a cat. It is red."},
    ],
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
    with pytest.raises(DataError, match=r"cannot read .*coqa/coqa\.json: .* no folder to have stanfordnlp/coqa from the Hub"):
        sample("coqa", tmp_path, 1, 0)


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
    own = {task: {str(row) for row in TASKS[task](DATA)} for task in MIXED}
    tasks = [next(task for task in MIXED if str(row) in own[task]) for row in mixed]
    assert Counter(tasks) == {task: 21 if task in ("webquestions", "freebaseqa") else 20 for task in MIXED}
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
    with pytest.raises(UsageError, match=f"'squad' is unknown; there are {', '.join(TASKS)}"):
        sample("squad", folder, 1, 0)


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
        ("dolly/dolly_3k.json", b"3", "dolly", "dolly_3k.json holds no list of records"),
        ("dolly/dolly_3k.json", b'{"a": []}', "dolly", "dolly_3k.json holds no list of records"),
        ("dolly/dolly_3k.json", b"[1]", "dolly", "record 0 has no 'instruction', 'input', 'output'"),
    ],
)
def test_broken_files_are_named(folder: Path, name: str, content: bytes, task: str, says: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=says):
        TASKS[task](folder)


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


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (EXPECTED["nq"][0], ["here", "there"]),
        (EXPECTED["gsm8k"][0], ["2\n#### 2"]),
        (EXPECTED["dolly"][0], ["So"]),
        ({"prompt": "a", "completion": "b"}, ["b"]),
    ],
)
def test_right_answers_of_a_row(row: dict[str, Any], expected: list[str]) -> None:
    assert references(row) == expected


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
        DataError, match=r"stanfordnlp/coqa cannot be had from the Hub: no route to the Hub; check .* folder that holds coqa/$"
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
