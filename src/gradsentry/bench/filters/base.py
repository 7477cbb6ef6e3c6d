"""What a filter is made of, what several filters measure in one forward pass, and the published threshold on any score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradsentry.bench.training import TargetModel
from gradsentry.scorer import Scorer
from gradsentry.types import Encoded, Record, Score, Vocabulary
from gradsentry.verdict.entropy import choose

Rows = Sequence[Mapping[str, Any]]
"""Plain rows, ``{"prompt", "completion"}``."""
Floats = NDArray[np.float64]
Places = NDArray[np.int64]
"""[N] positions of a data set's rows among the M rows that were measured."""


@dataclass(frozen=True)
class Verdicts:
    """A filter's verdicts on N rows."""

    flagged: NDArray[np.bool_]
    """[N] True: taken for poisoned."""
    scores: Floats | None = None
    """[N] higher is more suspicious; None: the filter has no score (it clusters)."""


@dataclass(frozen=True)
class Filter:
    """A filter in two steps, so that what many data sets have in common is measured once."""

    about: str
    """What it does and whose it is, in one line."""
    measure: Callable[[TargetModel, Rows], Any]
    """Runs the model on M rows. Filters with the same function share its result."""
    decide: Callable[[Any, Places, Rows, int], Verdicts]
    """(measured, places [N] of a data set's rows among the M, those N rows, seed) -> verdicts."""
    per_row: bool = True
    """Whether `measure` treats each row by itself; if not, it runs anew on every data set."""


@dataclass(frozen=True)
class Scored:
    """The ordinary scores of M rows."""

    scores: list[Score]
    """[M] in the order of the rows; a row that cannot be scored has a status that says so."""
    vocabulary: Vocabulary
    """The text of their tokens."""


def scored(target: TargetModel, rows: Rows) -> Scored:
    """One forward pass: entropies, losses, token surprises."""
    return Scored(target.scorer.score(rows), target.scorer.vocabulary)


def nothing(_subject: TargetModel, _rows: Rows) -> None:
    """For filters that use only the text of the rows, or nothing."""


def encoded(scorer: Scorer, rows: Rows) -> list[Encoded]:
    """The rows that can be scored, as tokens; `Encoded.row` is a row's position among the M."""
    prepared = scorer.prepare([Record(i, f"row {i}", row) for i, row in enumerate(rows)])
    return [row for row in prepared if isinstance(row, Encoded)]


def mean_states(scorer: Scorer, samples: Sequence[Encoded], count: int) -> NDArray[np.float32]:
    """[count, d] mean state before the head over each row's supervised positions; NaN for a row without a sample."""
    found = np.full((count, scorer.head.width), np.nan, dtype=np.float32)
    for members, states, _ in scorer.supervised_states(samples):
        for row, hidden in zip(members, states, strict=True):
            found[row.row] = hidden.float().mean(0).cpu().numpy()
    return found


def values(measured: Scored, chosen: Places, of: Callable[[Score], float]) -> Floats:
    """[N] a number from each chosen row's score, NaN for a row that was not scored."""
    picked = [measured.scores[i] for i in chosen.tolist()]
    return np.array([of(score) if score.status == "scored" else np.nan for score in picked], dtype=np.float64)


def above_threshold(found: Floats) -> Verdicts:
    """The published threshold (`verdict.entropy.choose`, with its fallback of 0.7) on a score in about [0, 1].

    Args:
        found: [N]; rows with NaN are not flagged and rank last.
    """
    threshold = choose("auto", found[~np.isnan(found)])
    return Verdicts(found > threshold.value, np.nan_to_num(found, nan=0.0))
