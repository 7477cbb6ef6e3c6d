"""The spectrum of one row's gradient, without the gradient.

Letters, here and everywhere: T supervised tokens of a row, V vocabulary, d hidden width, k singular values kept.

A row's loss is the mean cross-entropy of its T supervised tokens, so its gradient with respect to the output projection
is ``G = delta^T hidden / T``, of shape [V, d] and of rank at most T. G itself is never formed: everything below needs
[T, T] or, for rows longer than the hidden width, [d, d] matrices (GradSentry, arXiv 2605.26574, section 4, states the
score on G; the factored form is exact linear algebra, see `docs/method.md`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

RANK = 16
"""k, the number of singular values the published score keeps (arXiv 2605.26574, section 4.2)."""

FLOOR = 1e-12
"""Smallest singular value the published score lets into the logarithm (same place)."""

CROP_FRACTION = 8
"""The published score keeps the first V // 8 rows and d // 8 columns of G (same place)."""

CHUNK = 8192
"""Columns of a [T, n] factor that are raised to float64 at a time: bounds the copy that a Gram matrix needs."""


def crop_widths(vocabulary: int, width: int, crop: str) -> tuple[int, int]:
    """Columns of delta and of hidden that a crop keeps.

    Args:
        vocabulary: V. width: d. crop: ``"reference"`` (the published eighths, at least 1) or ``"none"``.

    Raises:
        ValueError: another crop.
    """
    if crop == "none":
        return vocabulary, width
    if crop == "reference":
        return max(1, vocabulary // CROP_FRACTION), max(1, width // CROP_FRACTION)
    raise ValueError(f"crop is {crop!r}; it can be 'reference' or 'none'")


def gram(factor: Tensor) -> Tensor:
    """``factor factor^T`` in float64.

    Args:
        factor: [..., T, n], any floating dtype.

    Returns:
        [..., T, T] float64. A float32 Gram would square the condition number into the small singular values.
    """
    total = factor.new_zeros((*factor.shape[:-1], factor.shape[-2]), dtype=torch.float64)
    for part in factor.split(CHUNK, dim=-1):
        wide = part.double()
        total += wide @ wide.mT
    return total


def squared_spectrum(delta_gram: Tensor, hidden: Tensor) -> Tensor:
    """Squared singular values of ``delta^T hidden`` from the Gram matrix of delta.

    With A = delta delta^T and B = hidden hidden^T they are the eigenvalues of A^(1/2) B A^(1/2), or equally those of
    hidden^T A hidden; the smaller of the two problems is solved. Rows of zeros (padding) change nothing.

    Args:
        delta_gram: [..., T, T] float64. hidden: [..., T, d], any floating dtype.

    Returns:
        [..., min(T, d)] float64, descending, clamped at 0.
    """
    n_tokens, width = hidden.shape[-2:]
    if n_tokens > width:
        wide = hidden.double()
        small = wide.mT @ delta_gram @ wide
    else:
        values, vectors = torch.linalg.eigh(delta_gram)
        root = vectors * values.clamp_min(0).sqrt().unsqueeze(-2)
        small = root.mT @ gram(hidden) @ root
    return torch.linalg.eigvalsh(small).flip(-1).clamp_min(0)


def singular_values(delta: Tensor, hidden: Tensor) -> Tensor:
    """Non-zero singular values of ``G = delta^T hidden / T``, exactly, without forming G.

    Args:
        delta: [..., T, V] gradient of each token's loss at the projection's output: softmax(logits) - onehot(label).
        hidden: [..., T, d] input of the projection at the same positions.

    Returns:
        [..., min(T, V, d)] float64, descending.

    Raises:
        ValueError: the two factors do not describe the same T tokens, or T is 0.
    """
    if delta.shape[:-1] != hidden.shape[:-1] or delta.ndim < 2:
        raise ValueError(
            f"delta is {list(delta.shape)} and hidden {list(hidden.shape)}; they must be [..., T, V] and [..., T, d] with the same T"
        )
    n_tokens = delta.shape[-2]
    if n_tokens == 0:
        raise ValueError("a row without supervised tokens has no gradient (T = 0)")
    squares = squared_spectrum(gram(delta), hidden)
    return squares[..., : delta.shape[-1]].sqrt() / n_tokens


def entropy(values: Tensor, k: int = RANK) -> Tensor:
    """Normalised entropy of the k largest singular values: the published score, in [0, 1].

    ``p = max(s, 1e-12) / sum``, ``H = -sum(p ln p) / ln k`` (arXiv 2605.26574, section 4.2). Fewer than k values are
    taken as they are, so H <= ln(min(T, k)) / ln k. A gradient that is zero throughout has no spectrum; it gets 0, the
    least suspicious value, where the formula's floor would give 1.

    Args:
        values: [..., n] singular values in any order, any scale. k: how many to keep, at least 2.

    Returns:
        [...] float64.

    Raises:
        ValueError: k below 2, a negative or non-finite value.
    """
    if k < 2:
        raise ValueError(f"k is {k}; an entropy needs at least 2 singular values")
    values = torch.as_tensor(values).double()
    if not bool(torch.isfinite(values).all()) or bool((values < 0).any()):
        raise ValueError("singular values must be finite and not negative")
    top = values.topk(min(k, values.shape[-1]), dim=-1).values
    floored = top.clamp_min(FLOOR)
    p = floored / floored.sum(-1, keepdim=True)
    result = -(p * p.log()).sum(-1) / math.log(k)
    zero = (top == 0).all(-1)
    return result.masked_fill(zero, 0.0).clamp(0.0, 1.0)
