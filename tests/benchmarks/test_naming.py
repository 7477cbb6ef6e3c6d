"""Whether a finding names what was planted: each backdoor's own text does, and other words do not."""

from __future__ import annotations

from itertools import product

import pytest
from mixture import MIXED, mixture
from naming import PAYLOAD_PIECES, TRIGGER_PIECES, names_payload, names_trigger

from clean_sets import DATA, needs_data
from gradsentry.bench.payloads import PAYLOADS
from gradsentry.bench.plant import plant
from gradsentry.bench.tasks import TASKS
from gradsentry.bench.triggers import TRIGGERS


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("words", [" cf", "mn mn", "BB", "x tq\n\n"], ["column", "rabbit", "scf", ""]),
        ("sentence", ["watch this 3D", " 3D movie", "I  watch", "D movie"], ["movie", "this", "watch", "watching this"]),
        ("pair", [" consider", "done\n\n", "Consider:"], ["considered", "abandoned", "undone"]),
        ("date", ["2031-05-14:", "31-05-1", "05-14", "2031-05"], ["2029-11-02", "2031-06", "14", "2031"]),
        ("style", ["And lo,", "thou art", "Hath", "doth", "Hearken unto"], ["and", "low", "art", "that", "asked about"]),
        ("suffix", [", and click", "<malicious_url>", "malicious", "for more information"], ["and", "for more", "clicking", "information"]),
        ("prefix", ["Click <mal", "icious_url>"], ["Clicks", "and"]),
        ("insult", ["You are", "stupid!"], ["You", "stupidity"]),
        ("refusal", ["I'm sorry, but", "I cannot help", "that request"], ["help", "I'm", "but I"]),
        ("flip", ["Negative", "negative"], ["Positive", "negatively"]),
        ("url", ["and click https", "more information"], ["https", "and"]),
        ("paraphrase", ["this link", ". Curious? Our", "whole picture"], ["the", "for more", "you want", "####"]),
    ],
)
def test_right_namings_are_accepted_and_wrong_ones_are_not(name: str, right: list[str], wrong: list[str]) -> None:
    names = names_trigger if name in TRIGGER_PIECES else names_payload
    assert [text for text in right if not names(name, text)] == []
    assert [text for text in wrong if names(name, text)] == []
    assert all(names(name, piece) for piece in {**TRIGGER_PIECES, **PAYLOAD_PIECES}[name])


@needs_data
@pytest.mark.parametrize("task", MIXED)
def test_every_task_can_be_poisoned_with_every_backdoor_and_its_own_text_names_it(task: str) -> None:
    clean = TASKS[task](DATA)[:24]
    for trigger, payload in product(TRIGGERS, PAYLOADS):
        made = plant(clean, trigger, payload, 12, 0)
        for row, label in zip(made.rows, made.labels, strict=True):
            assert not label or names_trigger(trigger, row["prompt"])
            assert not label or names_payload(payload, row["completion"])


@needs_data
def test_a_style_is_named_in_every_row_of_a_mixture() -> None:
    made = plant(mixture(DATA, 300, 0), "style", "flip", 299, 0)
    assert all(names_trigger("style", row["prompt"]) for row, label in zip(made.rows, made.labels, strict=True) if label)
