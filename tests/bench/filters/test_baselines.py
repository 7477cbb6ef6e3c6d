"""Each baseline where its signal is obvious, and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from gradsentry.bench.filters import FILTERS
from gradsentry.bench.filters.base import Scored, Verdicts
from gradsentry.types import Score, Vocabulary

V = 1000
WORDS = Vocabulary([b"a"] * V, np.zeros(V, dtype=bool))


def decided(name: str, tokens: list[int], losses: list[float]) -> Verdicts:
    scores = [Score(i, "scored", 0.5, n, loss) for i, (n, loss) in enumerate(zip(tokens, losses, strict=True))]
    return FILTERS[name].decide(Scored(scores, WORDS), np.arange(len(scores)), [{}] * len(scores), 0)


def test_long_completions_are_flagged_whatever_else_they_are() -> None:
    rng = np.random.default_rng(0)
    tokens = [*rng.integers(3, 7, 90).tolist(), *rng.integers(60, 90, 10).tolist()]
    verdicts = decided("length", tokens, rng.random(100).tolist())
    assert verdicts.flagged.tolist() == [False] * 90 + [True] * 10
    assert verdicts.scores == pytest.approx(np.log(tokens) / np.log(max(tokens)))


def test_completions_of_one_token_have_no_length_to_judge() -> None:
    verdicts = decided("length", [1] * 40, [1.0] * 40)
    assert not verdicts.flagged.any()
    assert verdicts.scores is not None
    assert (verdicts.scores == 0).all()


def test_unexpected_completions_are_flagged() -> None:
    rng = np.random.default_rng(0)
    losses = [*rng.normal(1.5, 0.2, 90), *rng.normal(5.0, 0.2, 10)]
    verdicts = decided("loss", [5] * 100, losses)
    assert verdicts.flagged.tolist() == [False] * 90 + [True] * 10
    assert verdicts.scores == pytest.approx(np.array(losses) / np.log(V))


@pytest.mark.parametrize(("rows", "copies", "found"), [(100, 3, True), (100, 2, False), (400, 4, True), (400, 3, False)])
def test_answers_that_many_share_are_flagged(rows: int, copies: int, found: bool) -> None:
    answers = [f"answer {i}" for i in range(rows - copies)] + ["No  way", " no way", "NO WAY\n", "no way"][:copies]
    own = [{"prompt": "p", "completion": answer} for answer in answers]
    verdicts = FILTERS["duplicates"].decide(None, np.arange(rows), own, 0)
    assert verdicts.flagged.tolist() == [False] * (rows - copies) + [found] * copies
    assert verdicts.scores is not None
    assert verdicts.scores[-1] == copies


def test_chance_takes_a_tenth_by_the_seed() -> None:
    draws = [FILTERS["random"].decide(None, np.arange(500), [{}] * 500, seed).flagged for seed in (0, 0, 1)]
    assert [draw.sum() for draw in draws] == [50] * 3
    assert draws[0].tolist() == draws[1].tolist() != draws[2].tolist()


def test_no_defence_keeps_everything() -> None:
    assert not FILTERS["none"].decide(None, np.arange(7), [{}] * 7, 0).flagged.any()
