"""CUBE (Cui et al. 2022, arXiv 2206.08514): rows whose fine-tuned states lie outside the largest cluster are poisoned."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradsentry.bench import needs_bench
from gradsentry.bench.defences import Defence, Rows, Subject, Verdicts
from gradsentry.bench.defences.passes import mean_states
from gradsentry.bench.training import encoded, train
from gradsentry.scorer import Scorer

DIRECTIONS, COMPONENTS, DISTANCE = 20, 2, 0.0
"""Components of the PCA, and UMAP's n_components and min_dist behind it, as OpenBackdoor, the authors' toolkit, sets them for CUBE."""
REACH = 100
"""UMAP's n_neighbors and HDBSCAN's min_samples, from there too; `reach` has what holds for few rows."""
FEWEST = 20
"""Rows below which nothing can be said of clusters."""


def reach(rows: int) -> int:
    """Neighbours that count: OpenBackdoor's 100, or a twentieth of fewer than 2,000 rows, but 5 (HDBSCAN's smallest cluster).

    A cluster of fewer rows than that cannot be told from its surroundings: with 100 of 300 rows no poison ratio below a third could.
    """
    return max(5, min(REACH, rows // 20))


def measure(subject: Subject, rows: Rows) -> NDArray[np.float32]:
    """[N, d] what the model, fine-tuned on these very rows, has in its last layer; NaN for a row that cannot be scored.

    The paper takes the classifier's [CLS]: the state from which the label is predicted. A generative row has no such place
    but one for every token of its answer: the states that predict the completion and its EOS, averaged. The model is trained as
    `subject.training` says: only one that has learnt the backdoor has it in its states.

    Raises:
        UsageError: the extra is missing.
    """
    needs_bench("CUBE", "umap", "sklearn")  # before the training, not after it
    subject.release()
    tuned = train(subject.model, rows, subject.training, subject.device)
    return mean_states(Scorer(tuned.model, tuned.tokenizer), encoded(rows, tuned), len(rows))


def decide(measured: NDArray[np.float32], chosen: NDArray[np.int64], rows: Rows, seed: int) -> Verdicts:
    """Flag all but the largest cluster; what is in none counts as one more cluster, as in the authors' toolkit.

    Generative rows have no classes: they are clustered together, where the paper does it class by class. Of fewer than 20 rows
    none is flagged.
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
    """[N, 2] by PCA and, behind it, UMAP."""
    from sklearn.decomposition import PCA
    from umap import UMAP

    directions: Any = PCA(n_components=min(DIRECTIONS, *states.shape), random_state=seed).fit_transform(states)
    with warnings.catch_warnings():  # what numba and UMAP tell of their own insides
        warnings.simplefilter("ignore")
        reducer: Any = UMAP(n_components=COMPONENTS, n_neighbors=reach(len(states)), min_dist=DISTANCE, random_state=seed, n_jobs=1)
        return reducer.fit_transform(directions)


def _clusters(points: NDArray[np.float32]) -> NDArray[np.int64]:
    """[N] number of each point's cluster, -1 in none, by HDBSCAN."""
    from sklearn.cluster import HDBSCAN

    finder: Any = HDBSCAN(min_samples=reach(len(points)), copy=True)  # pyright: ignore[reportArgumentType]
    return finder.fit_predict(points)


DEFENCE = Defence(
    "CUBE (Cui et al. 2022): clusters of the fine-tuned model's last states; the largest is kept", measure, decide, alone=False
)
