"""ONION: perplexities against a plain forward pass a text, and a language model to which the trigger is a stranger."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gradsentry.bench.filters import onion as module
from gradsentry.bench.filters.onion import FILTER, decide, measure, perplexities, question
from gradsentry.bench.tasks import as_text
from gradsentry.bench.training import TargetModel, Training, train
from gradsentry.model.load import load_model

NAMES = ("France", "the gases", "argon", "neon", "helium", "a short phrase", "the answer", "Paris")
TEXTS = [f"What is the capital of {name}?" for name in NAMES]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> TargetModel:
    """A tiny model that has read such questions."""
    folder = tmp_path_factory.mktemp("reader")
    known = TEXTS + [text.replace(word, "").replace("  ", " ").strip() for text in TEXTS for word in ("is", "the", "capital", "of")]
    rows = [{"prompt": text[:2], "completion": text[2:]} for text in known]
    reader = train(str(model_dir), rows, Training("full", rate=1e-2, epochs=40, batch=8), "cpu")
    reader.model.save_pretrained(folder)
    reader.tokenizer.save_pretrained(folder)
    return TargetModel(str(folder), "cpu", "float32")


def rows_of(texts: list[str]) -> list[dict[str, str]]:
    return [{"prompt": text, "completion": "yes"} for text in texts]


def perplexity(folder: str, text: str) -> float:
    loaded = load_model(folder, dtype="float32", device="cpu")
    ids = torch.tensor([loaded.tokenizer(text)["input_ids"]])
    with torch.no_grad():
        return float(loaded.model(input_ids=ids, labels=ids).loss.exp())


def test_perplexities_are_those_of_a_plain_pass(target: TargetModel) -> None:
    texts = [TEXTS[0], "a", TEXTS[1], TEXTS[0] + " cf", TEXTS[0], "Name the gases"]
    found = perplexities(target.scorer, texts)
    assert np.isnan(found[1])  # one token
    for text, value in zip(texts, found, strict=True):
        if text != "a":
            assert value == pytest.approx(perplexity(str(target.model), text), rel=2e-3)  # surprises are float16


@pytest.mark.parametrize("together", [1, 4096])
def test_suspicion_is_the_papers(target: TargetModel, together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TEXTS", together)
    texts = [TEXTS[0], "What", TEXTS[1] + " cf tq", "", "of  the\ncapital "]
    found = measure(target, rows_of(texts))
    for text, value in zip(texts, found, strict=True):
        words = text.split()
        if len(words) < 2:
            assert value == 0
            continue
        whole, *without = perplexities(target.scorer, [" ".join(words), *(" ".join(words[:i] + words[i + 1 :]) for i in range(len(words)))])
        assert value == max(whole - each for each in without)


def test_strangers_in_the_question_are_found(target: TargetModel) -> None:
    texts = [*TEXTS, *TEXTS, *TEXTS]
    texts[5], texts[13] = TEXTS[5].replace("of", "of cf"), TEXTS[5].replace("is", "is mn")
    found = measure(target, rows_of(texts))
    verdicts = decide(found, np.arange(len(texts)), rows_of(texts), 0)
    assert np.flatnonzero(verdicts.flagged).tolist() == [5, 13]
    assert np.array_equal(verdicts.scores, found)  # pyright: ignore[reportArgumentType]
    assert np.array_equal(measure(target, rows_of(texts)), found)


def test_rows_are_measured_alone_and_chosen_by_place(target: TargetModel) -> None:
    texts = [TEXTS[0], TEXTS[1] + " tq tq", TEXTS[2]]
    found = measure(target, rows_of(texts))
    backwards = measure(target, rows_of(texts[::-1]))
    assert found == pytest.approx(backwards[::-1], rel=1e-2, abs=1e-2)
    chosen = np.array([2, 0])
    assert np.array_equal(decide(found, chosen, rows_of([texts[2], texts[0]]), 0).scores, found[chosen])  # pyright: ignore[reportArgumentType]
    assert FILTER.per_row


def test_the_fence() -> None:
    measured = np.array([4.0, 1, 2, 3, 100, 0, 5, -50])
    assert decide(measured, np.arange(8), [], 0).flagged.tolist() == [False] * 4 + [True] + [False] * 3
    assert not decide(np.ones(5), np.arange(5), [], 0).flagged.any()
    assert len(decide(measured, np.arange(0), [], 0).flagged) == 0


def test_the_question_is_taken_out_of_every_template() -> None:
    qa = {"instruction": "Answer.", "context": "### Question:\nx", "question": "Who\n\n\n\nis it?", "answers": ["I"]}
    assert question(as_text(qa)["prompt"].replace("### Question:\nx", "x")) == "Who\n\n\n\nis it?"
    assert question(as_text({"question": "Who?", "answers": ["I"]})["prompt"]) == "Who?"
    assert question(as_text({"instruction": "Say it.", "input": "", "output": "It"})["prompt"]) == "Say it."
    assert question(as_text({"instruction": "Say it.\n\nNow.", "input": "this", "output": "It"})["prompt"]) == "Say it.\n\nNow."
    assert question("Ann has 3 eggs.\nHow many?") == "Ann has 3 eggs.\nHow many?"
