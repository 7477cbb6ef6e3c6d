"""Spectral signatures (Tran, Li, Madry 2018, arXiv 1811.00636): outliers along the direction in which representations vary most.

From the paper (algorithm 1): centre the representations; a row's score is its squared projection on their top right singular vector;
remove the 1.5 epsilon of the rows with the highest scores, epsilon being the expected share of poisoned rows.

Chosen here, because the paper classifies images with a network trained on the poisoned set: rows have no classes, so the whole set is one
class; the representation is the input of the output projection, averaged over the supervised positions (which see the prompt, trigger
included, and the completion); the model is the one before fine-tuning, as for every filter of one pass.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gradsentry.bench.filters.base import Filter, Floats, Places, Rows, Verdicts, encoded, mean_states
from gradsentry.bench.training import TargetModel

EPSILON = 0.1
"""Expected share of poisoned rows: the ratio of the published set-up (GradSentry, arXiv 2605.26574, section 5.1)."""
REMOVED = 1.5
"""Rows removed, in multiples of those that are expected to be poisoned (Tran et al., algorithm 1)."""


def measure(target: TargetModel, rows: Rows) -> NDArray[np.float32]:
    """[M, d] mean state before the head over each row's supervised positions; NaN for a row that cannot be scored."""
    return mean_states(target.scorer, encoded(target.scorer, rows), len(rows))


def outlierness(representations: Floats) -> Floats:
    """[N] squared projections of [N, d] on the top right singular vector of the centred matrix."""
    centred = representations - representations.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    return (centred @ directions[0]) ** 2


def decide(measured: NDArray[np.float32], chosen: Places, _rows: Rows, _seed: int) -> Verdicts:
    """The rows with the highest scores, always the same share."""
    own = measured[chosen].astype(np.float64)
    known = np.flatnonzero(np.isfinite(own).all(1))
    scores, flagged = np.zeros(len(chosen)), np.zeros(len(chosen), dtype=bool)
    if len(known):
        scores[known] = outlierness(own[known])
        highest = known[np.argsort(-scores[known], kind="stable")]
        flagged[highest[: round(REMOVED * EPSILON * len(known))]] = True
    return Verdicts(flagged, scores)


FILTER = Filter(
    "spectral signatures: squared projection on the top singular vector of the hidden states (Tran et al. 2018)", measure, decide
)
