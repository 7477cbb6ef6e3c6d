"""The spectrum of one row's gradient, computed without the gradient.

Letters, here and in all modules: T supervised tokens of a row, V vocabulary, d hidden width, k singular values kept.

A row's loss is the mean cross-entropy of its T supervised tokens, so its gradient with respect to the output projection
is ``G = delta^T hidden / T``, of shape [V, d] and of rank at most T. G itself is never formed: the functions
below need [T, T] matrices or, for rows longer than the hidden width, [d, d] matrices. GradSentry (arXiv 2605.26574, section 4)
defines the score on G; the factored form gives the same values, see `docs/method.md`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

RANK = 16
"""k, the number of singular values the published score keeps (arXiv 2605.26574, section 4.2)."""

FLOOR = 1e-12
"""Smaller singular values are raised to this before the logarithm (arXiv 2605.26574, section 4.2)."""

CROP_FRACTION = 8
"""The published score keeps the first V // 8 rows and d // 8 columns of G (arXiv 2605.26574, section 4.2)."""

GRAM_CHUNK_COLUMNS = 2048
"""Columns of a factor that are converted to float64 at a time; bounds the memory of a Gram matrix."""


@dataclass(frozen=True)
class GramPair:
    """Two Gram matrices that give the spectrum of ``delta^T hidden``: the eigenvalues of ``left right`` are its squared singular values."""

    left: Tensor
    """[..., n, n] float64: delta delta^T, or (delta^T hidden)^T (delta^T hidden) if T > d."""
    right: Tensor
    """[..., n, n] float64: hidden hidden^T, or the identity if T > d. n = min(T, d)."""


def crop_widths(vocabulary: int, width: int, crop: str) -> tuple[int, int]:
    """Number of columns of delta and of hidden that a crop keeps.

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


def _double(tensor: Tensor) -> Tensor:
    """The tensor in float64; on the CPU if its device has no float64 (MPS)."""
    return tensor.cpu().double() if tensor.device.type == "mps" else tensor.double()


def gram(factor: Tensor) -> Tensor:
    """``factor factor^T`` in float64.

    Args:
        factor: [..., T, n], any floating dtype.

    Returns:
        [..., T, T] float64. A float32 Gram would square the condition number into the small singular values.
    """
    return sum((wide @ wide.mT for wide in map(_double, factor.split(GRAM_CHUNK_COLUMNS, dim=-1))), start=_double(factor.new_zeros(())))


def gram_pair(pieces: Iterable[Tensor], hidden: Tensor) -> GramPair:
    """The Gram matrices of ``delta^T hidden``, [T, T] or [d, d], whichever are smaller.

    Args:
        pieces: [..., T, n] columns of delta, from left to right, [..., T, V] together; delta is never needed as a whole.
        hidden: [..., T, d], any floating dtype.
    """
    n_tokens, width = hidden.shape[-2:]
    if n_tokens <= width:
        return GramPair(sum(map(gram, pieces), start=_double(hidden.new_zeros(()))), gram(hidden))
    wide = _double(hidden)
    total = wide.new_zeros(*hidden.shape[:-2], width, width)
    for piece in pieces:
        for part in piece.split(GRAM_CHUNK_COLUMNS, dim=-1):
            gradient = _double(part).mT @ wide
            total += gradient.mT @ gradient
    return GramPair(total, torch.eye(width, dtype=wide.dtype, device=wide.device).expand_as(total))


def solve(problem: GramPair) -> Tensor:
    """Singular values of ``delta^T hidden`` [..., n] float64, descending; NaN throughout where a Gram matrix is not finite.

    Rows and columns of zeros (padding) add singular values of zero and change no other.
    """
    broken = ~(problem.left.isfinite() & problem.right.isfinite()).flatten(-2).all(-1)
    left, right = (part.masked_fill(broken[..., None, None], 0) for part in (problem.left, problem.right))
    values, vectors = torch.linalg.eigh(right)
    root = vectors * values.clamp_min(0).sqrt().unsqueeze(-2)
    squares = torch.linalg.eigvalsh(root.mT @ left @ root).flip(-1).clamp_min(0)
    return squares.sqrt().masked_fill(broken[..., None], float("nan"))


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
    return solve(gram_pair([delta], hidden))[..., : delta.shape[-1]] / n_tokens


def entropy(values: Tensor, k: int = RANK) -> Tensor:
    """Normalised entropy of the k largest singular values: the published score, in [0, 1].

    ``p = max(s, 1e-12) / sum``, ``H = -sum(p ln p) / ln k`` (arXiv 2605.26574, section 4.2). If there are
    fewer than k values, all are used, so H <= ln(min(T, k)) / ln k. An all-zero gradient has no spectrum; it gets 0, the least
    suspicious value, although the formula's floor would give 1.

    Args:
        values: [..., n] singular values in any order, any scale. k: number of values to keep, at least 2.

    Returns:
        [...] float64.

    Raises:
        ValueError: k below 2, a negative or non-finite value.
    """
    if k < 2:
        raise ValueError(f"k is {k}; an entropy needs at least 2 singular values")
    values = _double(torch.as_tensor(values))
    if not bool(torch.isfinite(values).all()) or bool((values < 0).any()):
        raise ValueError("singular values must be finite and not negative")
    top = values.topk(min(k, values.shape[-1]), dim=-1).values
    floored = top.clamp_min(FLOOR)
    p = floored / floored.sum(-1, keepdim=True)
    result = torch.special.entr(p).sum(-1) / math.log(k)
    zero = (top == 0).all(-1)
    return result.masked_fill(zero, 0.0).clamp(0.0, 1.0) + 0.0  # + 0.0: without it a single value's entropy would print as -0.0
