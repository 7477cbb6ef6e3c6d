"""Verdicts on scores in memory: what they refuse, and which policies there are."""

from __future__ import annotations

import numpy as np
import pytest

from gradsentry.errors import UsageError
from gradsentry.types import Score, Surprises, Vocabulary
from gradsentry.verdict.decide import decide
from gradsentry.verdict.policies import POLICIES

VOCABULARY = Vocabulary([b"one", b" two"], np.array([False, False]))
SURPRISES = Surprises(np.array([0, 1], np.int32), np.array([0, 1], np.float16), np.array([False, True]))


def test_rows_are_numbered_by_position() -> None:
    scores = [Score(7, "scored", 0.9, 1, 1.0), Score(7, "error", reason="half \ud83d"), Score(3, "scored", 0.1, 1, 1.0)]
    decision = decide(scores, VOCABULARY, policy="paper", threshold=0.5)
    assert decision.verdicts["row"].to_pylist() == [0, 1, 2]
    assert decision.flagged.tolist() == [True, False, False]
    assert decision.verdicts["reason"].to_pylist()[1] == "half ?"
    assert decision.findings == ()


def test_no_scores_are_no_verdicts() -> None:
    assert decide([], VOCABULARY).flagged.tolist() == []


def test_scores_without_surprises_are_refused_where_findings_need_them() -> None:
    scores = [Score(0, "scored", 0.1, 1, 1.0, surprises=SURPRISES), Score(1, "error"), Score(2, "scored", 0.1, 1, 1.0)]
    assert decide(scores[:2], VOCABULARY).flagged.tolist() == [False, False]
    with pytest.raises(UsageError, match=r"no surprises, which policy evidence needs"):
        decide(scores, VOCABULARY)


@pytest.mark.parametrize("options", [{"policy": "other"}, {"threshold": "most"}, {"policy": "paper", "strict": True}])
def test_impossible_options_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        decide([], VOCABULARY, **options)  # pyright: ignore[reportArgumentType]


def test_an_unknown_policy_is_refused_with_the_names_that_exist() -> None:
    with pytest.raises(UsageError, match=f"--policy guess: it can be {', '.join(POLICIES)}"):
        decide([], VOCABULARY, policy="guess")
