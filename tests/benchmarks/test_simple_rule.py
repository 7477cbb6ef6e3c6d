"""The seventy-line rule finds a planted word that flips a label, and flags nothing in clean rows."""

from __future__ import annotations

import random

import numpy as np
from simple_rule import simple_rule

from gradsentry.verdict.words import RowWords, Side
from made_words import row

WORDS = [f"w{i}" for i in range(60)]


def made(poisoned: int) -> list[RowWords]:
    rng = random.Random(0)
    rows = []
    for i in range(300):
        words, label = rng.choices(WORDS, k=10), rng.choice(("good", "bad"))
        if i < poisoned:
            words.insert(rng.randint(0, 10), "magic")
            label = "bad"
        own = row(" ".join(words), label, ["magic"])
        pairs = zip(own.prompt.words, own.prompt.surprise, strict=True)
        noise = np.array([rng.uniform(0, 4) if word and word != "magic" else nats for word, nats in pairs])
        rows.append(RowWords(Side(own.prompt.words, noise.astype(np.float32), own.prompt.spelled), own.completion))
    return rows


def test_a_planted_word_is_found() -> None:
    assert np.flatnonzero(simple_rule(made(40))).tolist() == list(range(40))


def test_clean_rows_are_kept() -> None:
    assert not simple_rule(made(0)).any()
    assert simple_rule([]).tolist() == []
