"""GraCeFul: clusters of the gradients' low frequencies (Wu et al., COLING 2025, arXiv 2412.02454).

From the paper: the gradient of each row's loss with respect to `lm_head.weight`, its two-dimensional discrete cosine transform, the low
frequencies of that (the first eighth of both dimensions), PCA to 32 components, hierarchical clustering into two clusters. The smaller
cluster is poisoned, so some rows are always removed.

A public adaptation of the authors' program states the constants that the paper's summary omits (none of its code was used): DCT-II without
normalisation, each of the 32 components divided by its standard deviation, average linkage of cosine distances. PCA is exact here and not
randomised.

The gradient G = (1/T) sum_t delta_t hidden_t^T is never formed: the transform of a sum of outer products is the sum of the outer products
of the transforms, ``DCT(G)[:V/8, :d/8] = (1/T) sum_t dct(delta_t)[:V/8] dct(hidden_t)[:d/8]^T``. PCA needs only the inner products of
these vectors, so they go to a temporary file (V d / 16 bytes a row: 1.7 MiB for SmolLM2-135M, 7.8 MiB for Llama-2-7B) and only their Gram
matrix is kept. The Gram matrix of some of the rows is a part of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dct
from torch import Tensor

from gradsentry.bench import needs_bench
from gradsentry.bench.filters.base import Filter, Floats, Places, Rows, Verdicts, encoded
from gradsentry.bench.training import TargetModel
from gradsentry.errors import RunError
from gradsentry.scorer import Scorer
from gradsentry.types import Encoded

FRACTION = 8
"""The first V // 8 and d // 8 frequencies are kept (Wu et al.)."""
COMPONENTS = 32
"""Of the PCA (Wu et al.)."""
FLAT = 1e-10
"""Components with a smaller share of all rows' squared norms are rounding errors of the float32 vectors (6e-8 squared, with a margin)."""
BLOCK = 2**27
"""Bytes of float64 vectors in memory at a time."""


def low_frequencies(signal: Tensor) -> NDArray[Any]:
    """[..., N] -> [..., N // 8]: the first (at least one) of the DCT-II, ``X_k = 2 sum_n x_n cos(pi k (2n + 1) / 2N)``."""
    return np.asarray(dct(signal.float().cpu().numpy()))[..., : max(1, signal.shape[-1] // FRACTION)]


def vectors(scorer: Scorer, rows: list[Encoded]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Each row's position and the [V/8, d/8] float32 low frequencies of its gradient, in the order of computation."""
    for members, states, targets in scorer.supervised_states(rows):
        hidden = torch.cat(states)
        left = np.concatenate([low_frequencies(delta) for delta in scorer.head.deltas(hidden, torch.cat(targets))])
        right = low_frequencies(hidden)
        ends = np.cumsum([len(part) for part in targets])
        for row, tall, wide in zip(members, np.split(left, ends[:-1]), np.split(right, ends[:-1]), strict=True):
            yield row.row, tall.T @ wide / len(tall)


def measure(target: TargetModel, rows: Rows) -> Floats:
    """[M, M] inner products of the rows' vectors; NaN where a row cannot be scored.

    Raises:
        RunError: the temporary file does not fit.
    """
    scorer = target.scorer
    places: list[int] = []
    gram = np.full((len(rows), len(rows)), np.nan)
    try:
        with tempfile.TemporaryFile() as file:
            for place, vector in vectors(scorer, encoded(scorer, rows)):
                file.write(vector.tobytes())
                places.append(place)
            if places:
                gram[np.ix_(places, places)] = inner_products(file, len(places))
    except OSError as error:
        raise RunError(
            f"GraCeFul's vectors of {len(rows):,} rows do not fit into {tempfile.gettempdir()} ({error}); "
            "set TMPDIR to a directory with more space"
        ) from None
    return gram


def inner_products(file: IO[bytes], m: int) -> Floats:
    """[m, m] Gram matrix of m consecutive float32 vectors of a file, summed in float64, a block of columns at a time."""
    file.flush()
    width = file.tell() // (4 * m)
    step = max(1, BLOCK // (8 * m))
    total = np.zeros((m, m))
    for start in range(0, width, step):
        # A new map for each block: pages that were read count as memory of this process while their map exists.
        held = np.memmap(file, dtype=np.float32, mode="r").reshape(m, width)
        part = held[:, start : start + step].astype(np.float64)
        del held
        total += part @ part.T
    return total


def components(gram: Floats) -> Floats:
    """[N, <= 32] coordinates of N vectors on their principal components, each of unit length over the rows, from their Gram matrix.

    Of the centred Gram matrix U S^2 U^T, PCA's coordinates are U S, and U once each is divided by its standard deviation (up to a common
    factor). Components without variance are left out.
    """
    centred = gram - gram.mean(0) - gram.mean(1)[:, None] + gram.mean()
    variances, directions = np.linalg.eigh(centred)
    some = np.flatnonzero(variances > FLAT * np.trace(gram))[-COMPONENTS:]
    return directions[:, some]


def smaller_cluster(coordinates: Floats) -> NDArray[np.bool_]:
    """[N] rows in the smaller of two clusters (of two equal ones, the first).

    Raises:
        UsageError: scikit-learn is not installed.
    """
    needs_bench("GraCeFul", "sklearn")
    from sklearn.cluster import AgglomerativeClustering

    labels = AgglomerativeClustering(n_clusters=2, metric="cosine", linkage="average").fit_predict(coordinates)
    return labels == np.argmin(np.bincount(labels))


def decide(gram: Floats, chosen: Places, _rows: Rows, _seed: int) -> Verdicts:
    """The smaller cluster of the rows that have a vector; no row where all vectors are equal."""
    own = gram[np.ix_(chosen, chosen)]
    known = np.flatnonzero(np.isfinite(own.diagonal()))
    flagged = np.zeros(len(chosen), dtype=bool)
    coordinates = components(own[np.ix_(known, known)]) if len(known) > 1 else np.empty((0, 0))
    if coordinates.size:
        flagged[known] = smaller_cluster(coordinates)
    return Verdicts(flagged)


FILTER = Filter("GraCeFul: two clusters of the low frequencies of the head's gradient (Wu et al. 2025)", measure, decide)
