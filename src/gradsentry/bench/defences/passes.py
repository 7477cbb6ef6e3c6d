"""What several defences take from the model in one pass, and the published threshold on any score of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradsentry.bench.defences import Rows, Subject, Verdicts
from gradsentry.scorer import Scorer
from gradsentry.types import Encoded, Record, Score, Vocabulary
from gradsentry.verdict.entropy import choose

Floats = NDArray[np.float64]
Places = NDArray[np.int64]
"""[N] where a data set's rows stand among those that were measured."""


@dataclass(frozen=True)
class Scored:
    """The ordinary scores of M rows."""

    scores: list[Score]
    """M of them, in the order of the rows; a row that cannot be scored has one too, which says so."""
    vocabulary: Vocabulary
    """What their tokens stand for."""


def scored(subject: Subject, rows: Rows) -> Scored:
    """One forward pass: entropies, losses, token surprises."""
    return Scored(subject.scorer.score(rows), subject.scorer.vocabulary)


def nothing(_subject: Subject, _rows: Rows) -> None:
    """For defences that look at the rows' text alone, or not even at that."""


def encoded(scorer: Scorer, rows: Rows) -> list[Encoded]:
    """The rows that can be scored, as tokens; `Encoded.row` is their place among the M."""
    prepared = scorer.prepare([Record(i, f"row {i}", row) for i, row in enumerate(rows)])
    return [row for row in prepared if isinstance(row, Encoded)]


def mean_states(scorer: Scorer, samples: Sequence[Encoded], count: int) -> NDArray[np.float32]:
    """[count, d] state before the head averaged over each row's supervised positions, NaN for a row that is not among the samples."""
    found = np.full((count, scorer.head.width), np.nan, dtype=np.float32)
    for members, states, _ in scorer.supervised_states(samples):
        for row, hidden in zip(members, states, strict=True):
            found[row.row] = hidden.float().mean(0).cpu().numpy()
    return found


def values(measured: Scored, chosen: Places, of: Callable[[Score], float]) -> Floats:
    """[N] a number of each chosen row's score, NaN where it was not scored."""
    picked = [measured.scores[i] for i in chosen.tolist()]
    return np.array([of(score) if score.status == "scored" else np.nan for score in picked], dtype=np.float64)


def above_threshold(found: Floats) -> Verdicts:
    """The published rule (`threshold.valley`, its fallback of 0.7 included) on a score whose usual values are 0 to 1.

    Args:
        found: [N], NaN for rows that have none: they are not flagged and rank last.
    """
    threshold = choose("auto", found[~np.isnan(found)])
    return Verdicts(found > threshold.value, np.nan_to_num(found, nan=0.0))
