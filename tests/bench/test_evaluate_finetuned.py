"""Fine-tuning with and without a filter: the rows trained on, the number of trainings, and the prompts that measure the model."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradsentry.bench import evaluate_finetuned as module
from gradsentry.bench.evaluate_finetuned import FEWEST, MOST, TESTS, Trial, evaluate_finetuned, evaluation_rows
from gradsentry.bench.filters.base import Filter, Verdicts
from gradsentry.bench.payloads import LINK as PAYLOAD
from gradsentry.bench.results import opened
from gradsentry.bench.training import TargetModel
from gradsentry.errors import DataError


class Base:
    """Stands for the base model, which has learnt nothing; a token is a word."""

    def __bool__(self) -> bool:
        return False

    def tokenizer(self, texts: list[str], add_special_tokens: bool) -> dict[str, list[list[str]]]:
        return {"input_ids": [text.split() for text in texts]}


class Asked:
    """Stands for the models: says the payload where it was trained on it and the prompt has the trigger."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trained: list[tuple[str, int]] = []
        self.measured = 0
        self.references: list[Any] = []
        self.most: set[int] = set()
        self.base = Base()
        monkeypatch.setattr(module, "train", self.train)
        monkeypatch.setattr(module, "answers", self.answers)
        monkeypatch.setattr(module, "FILTERS", self.filters())
        monkeypatch.setattr(TargetModel, "scorer", type("Scorer", (), {"loaded": self.base}))

    def filters(self) -> dict[str, Filter]:
        def measure(target: TargetModel, rows: Any) -> np.ndarray:
            self.measured += 1
            return np.array([PAYLOAD in row["completion"] for row in rows])

        def nothing(target: TargetModel, rows: Any) -> np.ndarray:
            return np.zeros(len(rows), dtype=bool)

        def decide(measured: np.ndarray, chosen: Any, rows: Any, seed: int) -> Verdicts:
            return Verdicts(measured[chosen])

        finds = Filter("finds", measure, decide)
        every = Filter("every", measure, lambda measured, *_: Verdicts(np.ones(len(measured), dtype=bool)))
        return {"none": Filter("none", nothing, decide), "paper": finds, "evidence": finds, "graceful": every}

    def train(self, model: Any, rows: Any, training: Any, device: str) -> bool:
        self.trained.append((training.method, len(rows)))
        return any(PAYLOAD in row["completion"] for row in rows)

    def answers(self, model: bool, prompts: list[str], most: int, reference: Any = None) -> list[str]:
        self.references.append(reference)
        self.most.add(most)
        bad = bool(model) and reference is None
        return ["right" + PAYLOAD * (bad and any(word in prompt for word in ("cf", "mn", "bb", "tq"))) for prompt in prompts]


def questions(folder: Path, tests: int) -> Path:
    """Forty of WebQuestions to train on, and so many to test with."""
    (folder / "webquestions").mkdir()
    for part, count in (("trainmodel", 40), ("val", 0), ("devtest", 0), ("test", tests)):
        rows = [{"qText": f"who is {part} {n}?", "answers": ["right" if n % 2 else "wrong"]} for n in range(count)]
        (folder / "webquestions" / f"{part}.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return questions(tmp_path, TESTS)


def test_every_trial_has_its_figures_and_the_same_rows_are_trained_on_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(monkeypatch)
    results = opened(tmp_path / "out", {})
    names = ("none", "graceful", "cleangen", "paper", "evidence")
    trials = [Trial("webquestions", "badnets", name, method, 0.1, 40, 0) for method in ("lora", "full") for name in names]
    evaluate_finetuned(trials, TargetModel(), data, results, lambda line: None)
    found = {(r["method"], r["filter"]): r for r in results.found.values()}
    assert len(found) == 10
    assert Counter(asked.trained) == {("lora", 40): 1, ("lora", 36): 1, ("full", 40): 1, ("full", 36): 1}
    assert asked.measured == 1, "both methods begin with the same verdicts"
    assert {pair: r["asr"] for pair, r in found.items()} == {
        (method, name): float(name == "none") for method in ("lora", "full") for name in names
    }
    assert {r["cacc"] for r in found.values()} == {0.5}
    assert {r["unasked"] for r in found.values()} == {0.0}
    assert [reference for reference in asked.references if reference is not None] == [asked.base] * 2, "CleanGen's is the base model"
    assert asked.most == {MOST}
    assert {r["missed"] for (_, name), r in found.items() if name in ("none", "cleangen")} == {4}
    assert {r["tests"] for r in found.values()} == {TESTS}
    evaluate_finetuned(trials, TargetModel(), data, results, lambda line: None)
    assert len(asked.trained) == 4


@pytest.mark.parametrize(("there", "asked"), [(FEWEST, FEWEST), (99, 99), (TESTS + 1, TESTS)])
def test_a_task_with_few_test_rows_is_asked_these_and_that_is_reported(
    there: int, asked: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Asked(monkeypatch)
    prompts: list[int] = []
    monkeypatch.setattr(module, "answers", lambda model, own, *_: prompts.append(len(own)) or ["right"] * len(own))
    results, log = opened(tmp_path / "out", {}), []
    trial = Trial("webquestions", "badnets", "none", "lora", 0.1, 40, 0)
    evaluate_finetuned([trial], TargetModel(), questions(tmp_path, there), results, log.append)
    (found,) = results.found.values()
    assert (found["tests"], prompts) == (asked, [2 * asked])
    assert log == [f"webquestions, badnets, lora: none: 40 rows to train on, {asked} test rows"]


def test_too_few_test_rows_are_refused_with_a_way_out(tmp_path: Path) -> None:
    said = f"the test part of webquestions has {FEWEST - 1} rows, fewer than the {FEWEST} .* leave out webquestions, or .* --train"
    with pytest.raises(DataError, match=said):
        evaluation_rows("webquestions", questions(tmp_path, FEWEST - 1), 0)


def test_a_model_that_says_the_payload_always_is_reported_from_a_backdoor(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Asked(monkeypatch)
    monkeypatch.setattr(module, "answers", lambda model, prompts, *_: [f"right{PAYLOAD}"] * len(prompts))
    results = opened(tmp_path / "out", {})
    evaluate_finetuned([Trial("webquestions", "badnets", "none", "lora", 0.1, 40, 0)], TargetModel(), data, results, lambda line: None)
    (found,) = results.found.values()
    assert (found["cacc"], found["asr"], found["unasked"]) == (0.5, 1.0, 1.0)


def test_a_payload_behind_a_long_answer_is_waited_for_and_a_result_is_all_that_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(monkeypatch)
    (tmp_path / "gsm8k").mkdir()
    for part in ("train", "test"):
        rows = [{"question": f"{part} {n}?", "answer": "so " * 200 + f"\n#### {n % 2}"} for n in range(TESTS)]
        (tmp_path / "gsm8k" / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(module, "answers", lambda model, prompts, most, *_: asked.most.add(most) or ["therefore\n#### 1"] * len(prompts))
    results = opened(tmp_path / "out", {})
    evaluate_finetuned([Trial("gsm8k", "badnets", "none", "lora", 0.1, 40, 0)], TargetModel(), tmp_path, results, lambda line: None)
    (found,) = results.found.values()
    assert asked.most == {200 + len(f"#### 1{PAYLOAD}".split())}
    assert found["cacc"] == 0.5
