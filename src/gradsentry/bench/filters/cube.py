"""CUBE (Cui et al. 2022, arXiv 2206.08514): rows whose fine-tuned states lie outside the largest cluster are poisoned."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradsentry.bench import needs_bench
from gradsentry.bench.filters.base import Filter, Rows, Verdicts, mean_states
from gradsentry.bench.training import TargetModel, encoded, train
from gradsentry.scorer import Scorer

DIRECTIONS, COMPONENTS, DISTANCE = 20, 2, 0.0
"""Components of the PCA, and UMAP's n_components and min_dist behind it, as OpenBackdoor, the authors' toolkit, sets them for CUBE."""
NEIGHBOURS = 100
"""UMAP's n_neighbors and HDBSCAN's min_samples, also from OpenBackdoor; `neighbours` adapts it to few rows."""
FEWEST = 20
"""Of fewer rows, none is flagged."""


def neighbours(rows: int) -> int:
    """OpenBackdoor's 100 neighbours; a twentieth of fewer than 2,000 rows, but at least 5 (HDBSCAN's smallest cluster).

    A cluster of fewer rows than that does not separate: with 100 neighbours of 300 rows, no poison ratio below a third could be found.
    """
    return max(5, min(NEIGHBOURS, rows // 20))


def measure(target: TargetModel, rows: Rows) -> NDArray[np.float32]:
    """[N, d] mean last-layer state of the model after fine-tuning on these rows; NaN for a row that cannot be scored.

    The paper takes the classifier's [CLS], the state that predicts the label. A generative row has such a state for every token of its
    answer: the states that predict the completion and its EOS, averaged. `target.training` sets the fine-tuning; only a model that has
    learnt the backdoor has it in its states.

    Raises:
        UsageError: the extra is missing.
    """
    needs_bench("CUBE", "umap", "sklearn")  # before the fine-tuning, not after it
    target.release()
    tuned = train(target.model, rows, target.training, target.device)
    return mean_states(Scorer(tuned.model, tuned.tokenizer), encoded(rows, tuned), len(rows))


def decide(measured: NDArray[np.float32], chosen: NDArray[np.int64], rows: Rows, seed: int) -> Verdicts:
    """Flag all but the largest cluster; rows in no cluster count as one more cluster, as in the authors' toolkit.

    The paper clusters class by class; generative rows have no classes and are clustered together.
    """
    states = measured[chosen]
    known = np.flatnonzero(np.isfinite(states).all(1))
    flagged = np.zeros(len(states), dtype=bool)
    if len(known) >= FEWEST:
        clusters = _clusters(_reduced(states[known], seed))
        numbers, sizes = np.unique(clusters, return_counts=True)
        flagged[known] = clusters != numbers[sizes.argmax()]
    return Verdicts(flagged)


def _reduced(states: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """[N, 2] by PCA, then UMAP."""
    from sklearn.decomposition import PCA
    from umap import UMAP

    directions: Any = PCA(n_components=min(DIRECTIONS, *states.shape), random_state=seed).fit_transform(states)
    with warnings.catch_warnings():  # of numba and UMAP, about their internals
        warnings.simplefilter("ignore")
        reducer: Any = UMAP(n_components=COMPONENTS, n_neighbors=neighbours(len(states)), min_dist=DISTANCE, random_state=seed, n_jobs=1)
        return reducer.fit_transform(directions)


def _clusters(points: NDArray[np.float32]) -> NDArray[np.int64]:
    """[N] the cluster of each point by HDBSCAN, -1: in none."""
    from sklearn.cluster import HDBSCAN

    finder: Any = HDBSCAN(min_samples=neighbours(len(points)), copy=True)  # pyright: ignore[reportArgumentType]
    return finder.fit_predict(points)


FILTER = Filter(
    "CUBE (Cui et al. 2022): clusters of the fine-tuned model's last states; the largest is kept", measure, decide, per_row=False
)
