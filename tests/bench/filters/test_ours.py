"""Both policies on rows with an obvious backdoor, against what a scan of the same rows says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import gradsentry
from gradsentry.bench.filters import FILTERS
from gradsentry.bench.filters.base import Scored, scored
from gradsentry.bench.training import TargetModel
from gradsentry.types import Score, Vocabulary

NO_WORDS = Vocabulary([b"a", b"b"], np.zeros(2, dtype=bool))


def by_hand(entropies: list[float | None]) -> Scored:
    """Scores with these entropies; None: a row that could not be scored."""
    scores = [Score(i, "unscorable") if value is None else Score(i, "scored", value, 5, 1.0) for i, value in enumerate(entropies)]
    return Scored(scores, NO_WORDS)


def test_paper_takes_the_valley_between_two_clusters() -> None:
    rng = np.random.default_rng(0)
    low, high = rng.normal(0.2, 0.03, 90), rng.normal(0.5, 0.03, 10)
    measured = by_hand([*low, None, *high])
    verdicts = FILTERS["paper"].decide(measured, np.arange(101), [{}] * 101, 0)
    assert verdicts.flagged.tolist() == [False] * 91 + [True] * 10
    assert verdicts.scores is not None
    assert verdicts.scores.tolist() == [*low, 0.0, *high]


def test_paper_falls_back_to_the_published_threshold() -> None:
    verdicts = FILTERS["paper"].decide(by_hand([0.69, 0.71]), np.array([1, 0, 1]), [{}] * 3, 0)
    assert verdicts.flagged.tolist() == [True, False, True]


def test_both_policies_say_what_a_scan_says(target: TargetModel, planted: Any, model_dir: Path) -> None:
    rows, labels = planted
    measured = scored(target, rows)
    for policy in ("paper", "evidence"):
        verdicts = FILTERS[policy].decide(measured, np.arange(len(rows)), rows, 0)
        result = gradsentry.scan(rows, model=model_dir, policy=policy)
        assert np.flatnonzero(verdicts.flagged).tolist() == result.flagged
    assert result.flagged == np.flatnonzero(labels).tolist()


def test_evidence_scores_are_the_strength_of_the_finding(target: TargetModel, planted: Any) -> None:
    rows, labels = planted
    verdicts = FILTERS["evidence"].decide(scored(target, rows), np.arange(len(rows)), rows, 0)
    assert verdicts.scores is not None
    assert (verdicts.scores[labels] > 15).all()
    assert (verdicts.scores[np.logical_not(labels)] == 0).all()
